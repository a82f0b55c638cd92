//! Handshakes: what is agreed on, and that they survive the network.

use std::time::Duration;

use dv_dtls::{CloseReason, Config, Connect, Error, State};
use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{AlpnError, SslContext, SslFiletype, SslMethod, SslVerifyMode, select_next_proto};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Crl, X509Name, X509VerifyResult};

use crate::contexts::*;
use crate::net::*;

#[test]
fn messages_go_both_ways() {
    let (mut world, server, client) = World::pair(1);
    world.nodes[server].echo = true;
    let (session, at_server) = world.open(client, server);
    for message in [&b"first"[..], b"second", &[7; 1000]] {
        world.send(client, session, message);
        world.settle();
    }
    world.settle();
    assert_eq!(world.nodes[client].messages(session), [&b"first"[..], b"second", &[7; 1000]]);
    assert_eq!(world.nodes[server].messages(at_server).len(), 3);
    let stats = world.nodes[server].endpoint.stats();
    assert_eq!((stats.hellos_answered, stats.handshakes_begun, stats.handshakes_finished), (1, 1, 1));
    let stats = world.nodes[client].endpoint.stats();
    assert_eq!((stats.hellos_answered, stats.handshakes_begun, stats.handshakes_finished), (0, 1, 1));
    assert_eq!((stats.messages_in, stats.messages_out), (3, 3));
    let sent = world.sent_by(world.nodes[client].address).count() as u64;
    assert_eq!(world.nodes[server].endpoint.stats().datagrams_in, sent);
}

#[test]
fn both_sides_know_what_was_agreed_on() {
    let alpn = b"\x04coap\x02h9";
    let server = server_with("server-ecdsa", |context| {
        context.set_ca_file(cert("ca.pem")).unwrap();
        context.set_verify(SslVerifyMode::PEER);
        context.set_session_id_context(b"test").unwrap();
        context.set_alpn_select_callback(|_, offered| select_next_proto(b"\x04coap", offered).ok_or(AlpnError::NOACK));
        context.set_tlsext_use_srtp("SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80").unwrap();
    });
    let client = client_with(|context| {
        context.set_certificate_chain_file(cert("client.pem")).unwrap();
        context.set_private_key_file(cert("client.key"), SslFiletype::PEM).unwrap();
        context.set_alpn_protos(alpn).unwrap();
        context.set_tlsext_use_srtp("SRTP_AEAD_AES_128_GCM").unwrap();
    });
    let mut world = World::new(2);
    let server = world.add(server, Config::default());
    let client = world.add(client, Config::default());
    let (ours, theirs) = world.open(client, server);
    let at_client = world.nodes[client].endpoint.info(ours).unwrap();
    let at_server = world.nodes[server].endpoint.info(theirs).unwrap();
    let subject = |info: &dv_dtls::Info<'_>| format!("{:?}", info.peer_certificate().unwrap().subject_name());
    assert_ne!(subject(&at_client), subject(&at_server));
    let mut keys = [[0; 32]; 2];
    for (info, key) in [&at_client, &at_server].into_iter().zip(&mut keys) {
        assert_eq!(info.state(), State::Established);
        assert_eq!(info.alpn(), Some(&b"coap"[..]));
        assert_eq!(info.server_name(), Some("localhost"));
        assert_eq!(info.srtp_profile(), Some("SRTP_AEAD_AES_128_GCM"));
        assert!(info.cipher().unwrap().contains("ECDSA"));
        assert_eq!(info.psk_identity(), None);
        assert!(!info.is_resumed());
        assert!((1100..1252).contains(&info.message_max()));
        info.export("EXPORTER-test", Some(b"context"), key).unwrap();
    }
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[0], [0; 32]);
    assert_eq!((at_client.is_server(), at_server.is_server()), (false, true));
    assert_eq!(at_server.local(), Some(world.nodes[server].address.ip()));
}

#[test]
fn pre_shared_keys() {
    let server = {
        let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
        context.set_cipher_list("PSK-AES128-GCM-SHA256").unwrap();
        context.set_psk_server_callback(|_, identity, key| {
            if identity != Some(b"alice") {
                return Ok(0);
            }
            key[..4].copy_from_slice(b"open");
            Ok(4)
        });
        context.build()
    };
    let client = |identity: &'static [u8]| {
        client_with(|context| {
            context.set_cipher_list("PSK-AES128-GCM-SHA256").unwrap();
            context.set_psk_client_callback(move |_, _, name, key| {
                name[..identity.len()].copy_from_slice(identity);
                name[identity.len()] = 0;
                key[..4].copy_from_slice(b"open");
                Ok(4)
            });
        })
    };
    let mut world = World::new(3);
    let server = world.add(server, Config::default());
    let alice = world.add(client(b"alice"), Config::default());
    let mallory = world.add(client(b"mallory"), settings(|s| s.handshake_timeout = Duration::from_secs(5)));
    let (_, session) = world.open(alice, server);
    assert_eq!(world.nodes[server].endpoint.info(session).unwrap().psk_identity(), Some(&b"alice"[..]));
    let refused = world.connect(mallory, server);
    world.pass_time(6 * SECOND);
    assert_eq!(world.nodes[mallory].closed(), [(refused, CloseReason::HandshakeTimeout)]);
    // The server has said why, in clear: unknown_psk_identity.
    let failure = world.nodes[mallory].failures[0].as_ref().unwrap();
    assert!(failure.contains("alert 115, in clear"), "{failure}");
    assert_eq!(world.nodes[server].endpoint.stats().handshakes_failed, 1);
}

#[test]
fn the_server_must_be_who_it_has_to_be() {
    let wrong_name = Some("other.test");
    let cases = [
        ("server-ecdsa", Some("localhost"), true),
        ("server-ecdsa", Some("127.0.0.1"), true),
        ("server-ecdsa", None, true),
        ("server-ecdsa", wrong_name, false),
        ("server-ecdsa", Some("192.0.2.1"), false),
        ("expired", Some("localhost"), false),
        ("wrong-ca", Some("localhost"), false),
    ];
    for (certificate, name, good) in cases {
        let mut world = World::new(4);
        let server = world.add(server_with(certificate, |_| {}), Config::default());
        let client = world.add(client(), Config::default());
        let session = world.try_connect(client, server, name).unwrap();
        world.pass_time(SECOND);
        let node = &world.nodes[client];
        if good {
            assert_eq!((node.opened(), node.closed()), (vec![session], vec![]), "{certificate} {name:?}");
        } else {
            assert_eq!(node.opened(), [], "{certificate} {name:?}");
            assert_eq!(node.closed(), [(session, CloseReason::Failed)], "{certificate} {name:?}");
        }
    }
}

#[test]
fn why_a_handshake_failed_can_be_read_with_its_event() {
    let mut world = World::new(4);
    let server = world.add(server(), Config::default());
    let context = client_with(|context| context.set_verify(SslVerifyMode::NONE));
    let client = world.add(context, Config::default());
    let session = world.try_connect(client, server, Some("other.test")).unwrap();
    world.pass_time(SECOND);
    assert_eq!(world.nodes[client].closed(), [(session, CloseReason::Failed)]);
    let failure = world.nodes[client].failures[0].as_ref().unwrap();
    assert!(failure.contains("certificate verify failed"), "{failure}");
    assert!(matches!(world.nodes[client].endpoint.info(session), Err(Error::Stale)));
}

/// libssl itself says little of a chain that is too long, and nothing when its length alone is too much.
#[test]
fn why_a_long_certificate_chain_is_refused() {
    for (copies, most) in [(0, 400), (60, 1024), (80, 32 * 1024)] {
        let chain = server_with("server-ecdsa", |context| {
            let own = X509::from_pem(&std::fs::read(cert("server-ecdsa.pem")).unwrap()).unwrap();
            (0..copies).for_each(|_| context.add_extra_chain_cert(own.clone()).unwrap());
        });
        let mut world = World::new(1);
        let server = world.add(chain, Config::default());
        let client = world.add(client(), settings(|settings| settings.max_certificate_chain = most));
        let session = world.connect(client, server);
        assert!(world.run(10 * SECOND, |world| !world.nodes[client].closed().is_empty()));
        assert_eq!(world.nodes[client].closed(), [(session, CloseReason::Failed)]);
        let failure = world.nodes[client].failures[0].clone().unwrap();
        assert!(failure.contains("excessive message size"), "{failure}");
        assert!(failure.contains(&format!("max_certificate_chain is {most})")), "{failure}");
    }
}

#[test]
fn verification_can_be_left_to_the_context() {
    let mut world = World::new(5);
    let server = world.add(server_with("wrong-ca", |_| {}), Config::default());
    let client = world.add(client(), Config { verify_server: false, ..Config::default() });
    let (session, _) = world.open(client, server);
    let info = world.nodes[client].endpoint.info(session).unwrap();
    assert_ne!(info.verify_result(), X509VerifyResult::OK);
}

/// Handshakes and an echo each through a bad network. Time is real: libssl's own timer repeats the client's last flight.
fn through_a_bad_network(seed: u64, faults: Faults, clients: usize) {
    let quick = || {
        settings(|s| {
            s.first_timeout = Duration::from_millis(40);
            s.longest_timeout = Duration::from_millis(160);
        })
    };
    let mut world = World::new(seed);
    world.real = true;
    world.faults = faults;
    let server = world.add(server_with_client_verification(), quick());
    world.nodes[server].echo = true;
    let sessions: Vec<_> = (0..clients)
        .map(|_| {
            let client = world.add(client_with_certificate(), quick());
            (client, world.connect(client, server))
        })
        .collect();
    let open = |world: &World| sessions.iter().filter(|(node, s)| world.nodes[*node].opened().contains(s)).count();
    assert!(world.run(60 * SECOND, |world| open(world) == clients), "{} of {clients}", open(&world));
    assert_eq!(world.nodes[server].opened().len(), clients);
    // Application data is not repeated by anybody: the program does that.
    for _ in 0..200 {
        let mut waiting = 0;
        for &(node, session) in &sessions {
            if world.nodes[node].messages(session).is_empty() {
                world.send(node, session, b"hello");
                waiting += 1;
            }
        }
        if waiting == 0 {
            break;
        }
        world.pass_time(10 * MS);
    }
    for &(node, session) in &sessions {
        assert_eq!(world.nodes[node].messages(session).first(), Some(&&b"hello"[..]));
        assert_eq!(world.nodes[node].closed(), []);
    }
}

#[test]
fn a_fifth_of_the_datagrams_is_lost() {
    through_a_bad_network(6, Faults { loss: 20, duplicate: 10, reorder: 20 }, 60);
}

#[test]
fn half_of_the_datagrams_are_lost() {
    through_a_bad_network(7, Faults { loss: 50, duplicate: 10, reorder: 20 }, 60);
}

#[test]
fn no_datagram_is_larger_than_the_mtu() {
    for mtu in [256, 300, 576, 1280, 1400] {
        let mut world = World::new(8);
        let server_context = server_with("server-chain5-rsa4096", |context| {
            context.set_ca_file(cert("ca.pem")).unwrap();
            context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        });
        let server = world.add(server_context, settings(|s| s.mtu = mtu));
        let client = world.add(client_with_certificate(), settings(|s| s.mtu = mtu));
        let (session, theirs) = world.open(client, server);
        let max = world.nodes[client].endpoint.info(session).unwrap().message_max();
        world.send(client, session, &vec![1; max]);
        assert_eq!(world.nodes[client].endpoint.send(session, &vec![1; max + 1]), Err(Error::TooLong { max }));
        world.settle();
        assert_eq!(world.nodes[server].messages(theirs), [&vec![1; max][..]]);
        let largest = world.sent.iter().map(|(_, _, bytes)| bytes.len()).max().unwrap();
        assert!(largest <= usize::from(mtu) - 28, "{largest} bytes of payload at an MTU of {mtu}");
        assert!(largest > usize::from(mtu) - 28 - 64, "{largest} bytes of payload at an MTU of {mtu}");
    }
}

#[test]
fn a_hello_in_fragments() {
    let alpn: Vec<u8> = (0..20).flat_map(|i| [&[16][..], &[b'a' + i; 16]].concat()).collect();
    let mut world = World::new(9);
    let server = world.add(server(), Config::default());
    let client = world.add(client_with(|context| context.set_alpn_protos(&alpn).unwrap()), settings(|s| s.mtu = 256));
    world.open(client, server);
    let (server, client) = (world.nodes[server].address, world.nodes[client].address);
    let hellos = world.sent.iter().filter(|(from, to, bytes)| (*from, *to) == (client, server) && bytes[13] == 1);
    assert!(hellos.count() >= 4, "the hellos were not fragmented");
}

/// What belongs to the handshake in one direction ends none in the other.
#[test]
fn two_connect_to_each_other_at_once() {
    for (seed, loss) in [(20, 0), (21, 0), (22, 20)] {
        let mut world = World::new(seed);
        let both_roles = || server_with("server-ecdsa", |context| context.set_ca_file(cert("ca.pem")).unwrap());
        let [one, other] = [(); 2].map(|()| world.add(both_roles(), Config::default()));
        world.real = loss > 0;
        world.faults.loss = loss;
        let sessions = [(one, world.connect(one, other)), (other, world.connect(other, one))];
        assert!(world.run(60 * SECOND, |world| [one, other].iter().all(|node| world.nodes[*node].opened().len() == 2)));
        world.faults.loss = 0;
        for (node, session) in sessions {
            assert_eq!(world.nodes[node].closed(), []);
            world.send(node, session, b"a message");
        }
        world.settle();
        for node in [one, other] {
            let accepted = world.nodes[node]
                .opened()
                .into_iter()
                .find(|session| world.nodes[node].endpoint.info(*session).is_ok_and(|info| info.is_server()));
            assert_eq!(world.nodes[node].messages(accepted.unwrap()), [b"a message"]);
        }
    }
}

/// A certificate that is good for both roles, and its key.
fn for_both_roles(name: &str) -> (X509, PKey<Private>) {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&curve).unwrap()).unwrap();
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut x509 = X509::builder().unwrap();
    x509.set_version(2).unwrap();
    x509.set_subject_name(&subject).unwrap();
    x509.set_issuer_name(&subject).unwrap();
    x509.set_pubkey(&key).unwrap();
    x509.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    x509.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    let names = SubjectAlternativeName::new().dns("localhost").build(&x509.x509v3_context(None, None)).unwrap();
    x509.append_extension(names).unwrap();
    x509.sign(&key, MessageDigest::sha256()).unwrap();
    (x509.build(), key)
}

/// The same where both ask for certificates, and show another one as a client than as a server, under the same number.
#[test]
fn two_with_certificates_connect_to_each_other_at_once() {
    for (seed, loss) in [(20, 0), (22, 20), (23, 20)] {
        let mut world = World::new(seed);
        world.real = loss > 0;
        world.faults.loss = loss;
        let [as_client, as_server] = ["as a client", "as a server"].map(for_both_roles);
        let [one, other] = [(); 2].map(|()| {
            let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
            context.set_certificate(&as_client.0).unwrap();
            context.set_private_key(&as_client.1).unwrap();
            for trusted in [&as_client, &as_server] {
                context.cert_store_mut().add_cert(trusted.0.clone()).unwrap();
            }
            context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            context.set_session_id_context(b"test").unwrap();
            let as_server = as_server.clone();
            context.set_servername_callback(move |ssl, _| {
                if ssl.is_server() {
                    ssl.set_certificate(&as_server.0).unwrap();
                    ssl.set_private_key(&as_server.1).unwrap();
                }
                Ok(())
            });
            world.add(context.build(), Config::default())
        });
        world.connect(one, other);
        world.connect(other, one);
        let opened = |world: &World, node: usize| world.nodes[node].opened().len();
        assert!(world.run(60 * SECOND, |world| [one, other].iter().all(|node| opened(world, *node) == 2)), "{seed}");
        for node in [one, other] {
            for session in world.nodes[node].opened() {
                let info = world.nodes[node].endpoint.info(session).unwrap();
                let shown = if info.is_server() { &as_client } else { &as_server };
                assert_eq!(info.peer_certificate().unwrap().to_der().unwrap(), shown.0.to_der().unwrap());
            }
        }
    }
}

/// Resumes sessions while the network is bad: the last flight of a resumed handshake is the client's.
#[test]
fn resumption() {
    for (seed, loss) in [(10, 0), (11, 40)] {
        let quick = || {
            settings(|s| {
                s.first_timeout = Duration::from_millis(40);
                s.longest_timeout = Duration::from_millis(160);
            })
        };
        let mut world = World::new(seed);
        let server = world.add(server_with_client_verification(), quick());
        let clients: Vec<_> = (0..20).map(|_| world.add(client_with_certificate(), quick())).collect();
        let tickets: Vec<_> = clients
            .iter()
            .map(|client| {
                let (session, _) = world.open(*client, server);
                let ticket = world.nodes[*client].endpoint.info(session).unwrap().resumption().unwrap();
                world.nodes[*client].endpoint.close(session).unwrap();
                ticket
            })
            .collect();
        world.settle();
        assert_eq!(world.nodes[server].closed().len(), clients.len());

        world.real = true;
        world.faults.loss = loss;
        let (now, to) = (world.now, world.nodes[server].address);
        for (client, ticket) in clients.iter().zip(&tickets) {
            let connect = Connect { resume: Some(ticket), ..Connect::to_named(to, "localhost") };
            world.nodes[*client].endpoint.connect(now, &connect).unwrap();
        }
        let all = 2 * clients.len();
        let done = |world: &World| {
            world.nodes[server].opened().len() == all && clients.iter().all(|c| world.nodes[*c].opened().len() == 2)
        };
        assert!(world.run(60 * SECOND, done));
        for node in &world.nodes {
            let session = *node.opened().last().unwrap();
            let info = node.endpoint.info(session).unwrap();
            assert!(info.is_resumed());
            assert!(info.peer_certificate().is_some());
        }
    }
}

/// No certificate is shown when a session is resumed: that of the session has to do for what is asked for now.
#[test]
fn a_session_is_resumed_only_where_its_certificate_would_do() {
    let cases = [
        ("server-ecdsa", Some("localhost"), true, true),
        ("server-ecdsa", Some("localhost."), true, true),
        ("server-ecdsa", Some("127.0.0.1"), true, true),
        ("server-ecdsa", Some("::1"), true, true),
        ("server-ecdsa", None, true, true),
        ("server-ecdsa", Some("other.test"), true, false),
        ("server-ecdsa", Some("192.0.2.1"), true, false),
        ("server-ecdsa", Some("2001:db8::1"), true, false),
        ("server-ecdsa", Some("other.test"), false, true),
        ("wrong-ca", Some("localhost"), false, true),
        ("wrong-ca", Some("localhost"), true, false),
    ];
    for (certificate, name, verify, good) in cases {
        let mut world = World::new(13);
        let server = world.add(server_with(certificate, |_| {}), Config::default());
        let context = client_with(|context| context.set_verify(SslVerifyMode::NONE));
        let trusting = world.add(context.clone(), Config { verify_server: false, ..Config::default() });
        let client = world.add(context, Config { verify_server: verify, ..Config::default() });
        let (session, _) = world.open(trusting, server);
        let ticket = world.nodes[trusting].endpoint.info(session).unwrap().resumption().unwrap();
        let (now, to) = (world.now, world.nodes[server].address);
        let connect = Connect { name, resume: Some(&ticket), ..Connect::to(to) };
        let session = world.nodes[client].endpoint.connect(now, &connect).unwrap();
        world.pass_time(SECOND);
        let node = &world.nodes[client];
        if good {
            assert_eq!(node.opened(), [session], "{certificate} {name:?}");
            assert!(node.endpoint.info(session).unwrap().is_resumed(), "{certificate} {name:?}");
        } else {
            assert_eq!(node.closed(), [(session, CloseReason::Failed)], "{certificate} {name:?}");
        }
    }
}

unsafe extern "C" {
    fn X509_STORE_add_crl(store: *mut openssl_sys::X509_STORE, crl: *mut openssl_sys::X509_CRL) -> libc::c_int;
}

/// Nor is it forgotten since: a revocation list that was loaded meanwhile counts, and so do other rules, and the day.
#[test]
fn a_session_is_resumed_only_where_its_certificate_would_do_now() {
    type Rule = fn(&SslContext);
    let revocations: Rule = |context| {
        let crl = X509Crl::from_pem(&std::fs::read(cert("crl.pem")).unwrap()).unwrap();
        let store = context.cert_store().as_ptr();
        // SAFETY: store and list are alive, and no other thread uses the store; it takes a reference of its own.
        unsafe {
            assert_eq!(X509_STORE_add_crl(store, crl.as_ptr()), 1);
            let flags = openssl_sys::X509_V_FLAG_CRL_CHECK;
            assert_eq!(openssl_sys::X509_STORE_set_flags(store, flags as _), 1);
        }
    };
    let in_the_year_2200: Rule = |context| {
        // SAFETY: context and parameters are alive, and no other thread uses them.
        unsafe {
            openssl_sys::X509_VERIFY_PARAM_set_time(openssl_sys::SSL_CTX_get0_param(context.as_ptr()), 7_258_118_400)
        };
    };
    let nothing: Rule = |_| {};
    for (certificate, rule, good) in [
        ("revoked", nothing, true),
        ("revoked", revocations, false),
        ("server-ecdsa", revocations, true),
        ("server-chain5-rsa4096", nothing, true),
        ("server-ecdsa", in_the_year_2200, false),
    ] {
        let mut world = World::new(14);
        let server = world.add(server_with(certificate, |_| {}), Config::default());
        let context = client();
        let client = world.add(context.clone(), Config::default());
        let (session, _) = world.open(client, server);
        let ticket = world.nodes[client].endpoint.info(session).unwrap().resumption().unwrap();
        world.nodes[client].endpoint.close(session).unwrap();
        world.settle();
        rule(&context);
        let (now, to) = (world.now, world.nodes[server].address);
        let connect = Connect { resume: Some(&ticket), ..Connect::to_named(to, "localhost") };
        let session = world.nodes[client].endpoint.connect(now, &connect).unwrap();
        world.pass_time(SECOND);
        let node = &world.nodes[client];
        if good {
            assert_eq!(node.opened().last(), Some(&session), "{certificate}");
            assert!(node.endpoint.info(session).unwrap().is_resumed(), "{certificate}");
        } else {
            assert_eq!(node.closed().last(), Some(&(session, CloseReason::Failed)), "{certificate}");
        }
    }
}

#[test]
fn a_session_of_another_context_is_not_resumed() {
    let (mut world, server, client_a) = World::pair(12);
    let client_b = world.add(client(), Config::default());
    let (session, _) = world.open(client_a, server);
    let ticket = world.nodes[client_a].endpoint.info(session).unwrap().resumption().unwrap();
    let connect = Connect { resume: Some(&ticket), ..Connect::to(world.nodes[server].address) };
    assert!(matches!(world.nodes[client_b].endpoint.connect(0, &connect), Err(Error::Invalid(_))));
}
