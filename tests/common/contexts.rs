//! SSL_CTXs for both sides.

use dv_dtls::{Config, Settings};
use openssl::ssl::{SslContext, SslContextBuilder, SslFiletype, SslMethod, SslVerifyMode};

pub use super::cert;

pub fn server() -> SslContext {
    server_with("server-ecdsa", |_| {})
}

pub fn server_with(name: &str, set: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_certificate_chain_file(cert(&format!("{name}.pem"))).unwrap();
    context.set_private_key_file(cert(&format!("{name}.key")), SslFiletype::PEM).unwrap();
    set(&mut context);
    context.build()
}

pub fn client() -> SslContext {
    client_with(|_| {})
}

pub fn client_with(set: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_ca_file(cert("ca.pem")).unwrap();
    set(&mut context);
    context.build()
}

/// A client's context that shows a certificate.
pub fn client_with_certificate() -> SslContext {
    client_with(|context| {
        context.set_certificate_chain_file(cert("client.pem")).unwrap();
        context.set_private_key_file(cert("client.key"), SslFiletype::PEM).unwrap();
    })
}

/// A server's context that wants a certificate.
pub fn server_with_client_verification() -> SslContext {
    server_with("server-ecdsa", |context| {
        context.set_ca_file(cert("ca.pem")).unwrap();
        context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        context.set_session_id_context(b"test").unwrap();
    })
}

pub fn settings(change: impl FnOnce(&mut Settings)) -> Config {
    let mut config = Config::default();
    change(&mut config.settings);
    config
}
