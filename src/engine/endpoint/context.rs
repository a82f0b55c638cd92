//! What a context can be given that takes more than one call of OpenSSL's.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use openssl::ssl::SslContextBuilder;

use super::Error;
use crate::tls::secret::FleetSecret;
use crate::tls::{context, names};

/// Gives a context another certificate, with its chain and its key from PEM files. Clients that ask for one of the DNS names
/// in it (SNI) are shown it, all others the context's own. Of several for one name and type of key, the first that was added
/// is shown.
///
/// The context's certificate callback is taken for it. Its server name callback stays the program's: when that one changes
/// the context of a session, the certificates of the new one count.
///
/// ```no_run
/// # use openssl::ssl::{SslContext, SslFiletype, SslMethod};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut context = SslContext::builder(SslMethod::dtls_server())?;
/// context.set_certificate_chain_file("everybody.pem")?;
/// context.set_private_key_file("everybody.key", SslFiletype::PEM)?;
/// dv_dtls::add_certificate(&mut context, "example.org.pem", "example.org.key")?;
/// dv_dtls::add_certificate(&mut context, "example.net.pem", "example.net.key")?;
/// # Ok(())
/// # }
/// ```
pub fn add_certificate(
    context: &mut SslContextBuilder,
    certificate: impl AsRef<Path>,
    key: impl AsRef<Path>,
) -> Result<(), Error> {
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|why| Error::Invalid(why.to_string()));
    let (certificate, key) = (path(certificate.as_ref())?, path(key.as_ref())?);
    names::add(context::of(context), &certificate, &key).map_err(|why| Error::Invalid(why.to_string()))
}

/// Seals the session tickets of a context with keys that are made of a file with random bytes, 16 at least: servers that
/// share it resume each other's sessions, and their own after a restart. [`ServerConfig::secret_file`] does this for a
/// server.
///
/// [`ServerConfig::secret_file`]: crate::ServerConfig::secret_file
pub fn share_tickets(context: &mut SslContextBuilder, secret_file: impl AsRef<Path>) -> Result<(), Error> {
    let shared =
        FleetSecret::read(secret_file.as_ref()).and_then(|secret| secret.use_for_tickets(context::of(context)));
    shared.map_err(|why| Error::Invalid(why.to_string()))
}
