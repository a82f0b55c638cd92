//! A peer on webrtc-dtls, the DTLS 1.2 of webrtc-rs.

use std::sync::Arc;
use std::time::Duration;

use interop_peers::Options;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UdpSocket;
use webrtc_dtls::cipher_suite::CipherSuiteId;
use webrtc_dtls::config::{ClientAuthType, Config};
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::crypto::{Certificate, CryptoPrivateKey};
use webrtc_util::conn::Listener;

/// How long the answer to a goodbye is waited for.
const GOODBYE: Duration = Duration::from_secs(1);

fn chain(file: &[u8]) -> Vec<CertificateDer<'static>> {
    rustls_pemfile::certs(&mut &file[..]).map(|certificate| certificate.expect("PEM")).collect()
}

fn config(options: &Options) -> Config {
    let mut config = Config { server_name: "localhost".into(), ..Config::default() };
    if let Some(mtu) = options.number("-mtu") {
        config.mtu = mtu;
    }
    if let Some(file) = options.read_file("-ca") {
        let mut roots = RootCertStore::empty();
        chain(&file).into_iter().for_each(|root| roots.add(root).expect("a root"));
        (config.roots_cas, config.client_cas) = (roots.clone(), roots);
        config.client_auth = ClientAuthType::RequireAndVerifyClientCert;
    }
    if let Some(file) = options.read_file("-cert") {
        let key = String::from_utf8(options.read_file("-key").expect("a key, too")).expect("PEM");
        let key = rcgen::KeyPair::from_pem(&key).expect("a key");
        let private_key = CryptoPrivateKey::from_key_pair(&key).expect("of a kind that it knows");
        config.certificates = vec![Certificate { certificate: chain(&file), private_key }];
    }
    if let Some(psk) = options.psk() {
        config.psk = Some(Arc::new(move |_: &[u8]| Ok(psk.clone())));
        config.psk_identity_hint = Some(b"client".to_vec());
        config.cipher_suites = vec![CipherSuiteId::Tls_Psk_With_Aes_128_Gcm_Sha256];
    }
    config
}

async fn serve(options: &Options) {
    let listener = webrtc_dtls::listener::listen(options.address().to_string(), config(options)).await.expect("a port");
    println!("listening {}", listener.addr().await.expect("bound"));
    loop {
        let (session, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                println!("error {e}");
                continue;
            }
        };
        println!("open");
        tokio::spawn(async move {
            let mut message = vec![0; 16384];
            while let Ok(len @ 1..) = session.recv(&mut message).await {
                let _ = session.send(&message[..len]).await;
            }
            let _ = session.close().await;
        });
    }
}

#[tokio::main]
async fn main() {
    let options = Options::read();
    if options.is_server() {
        serve(&options).await;
    }
    let socket = Arc::new(UdpSocket::bind(options.local()).await.expect("a port"));
    socket.connect(options.address()).await.expect("loopback");
    let session = Arc::new(DTLSConn::new(socket, config(&options), true, None).await.expect("a handshake"));
    println!("open");
    let reader = session.clone();
    let printing = tokio::spawn(async move {
        let mut message = vec![0; 16384];
        while let Ok(len) = reader.read(&mut message, None).await {
            println!("{}", String::from_utf8_lossy(&message[..len]));
        }
    });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.expect("text") {
        session.write(line.as_bytes(), None).await.expect("sent");
    }
    session.close().await.expect("closed");
    let _ = tokio::time::timeout(GOODBYE, printing).await;
    // Its thread for the input has to end, too.
    std::process::exit(0);
}
