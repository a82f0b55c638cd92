//! One secret that a fleet of servers shares: cookies and session tickets of each are good at all of them.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use foreign_types::ForeignTypeRef;
use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::ssl::SslContextRef;

use super::cause::{Cause, with_clean_queue};
use super::certificate::Contents;
use super::sys;
use crate::wipe;

/// A shorter secret could be guessed.
const LEAST: usize = 16;

/// Bytes that libssl wants for tickets: a name, an HMAC key and an AES key.
const TICKET_KEYS: usize = 16 + 32 + 32;

/// What is in the file of the secret: random bytes, in any form.
pub struct FleetSecret(Contents);

impl FleetSecret {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<FleetSecret, Cause> {
        let read = || {
            let path = CString::new(path.as_os_str().as_bytes()).map_err(|why| Cause::from(why.to_string()))?;
            let contents = Contents::of(&path)?;
            match contents.bytes().len() {
                len if len < LEAST => Err(Cause::from(format!("{len} bytes; at least {LEAST} are needed"))),
                _ => Ok(FleetSecret(contents)),
            }
        };
        read().map_err(|cause| cause.about(format_args!("secret file {}", path.display())))
    }

    /// The secret behind the cookies: the file as it is, so that all doors make the same of it. Their keys are derived from
    /// it with another hash function than those of the tickets.
    pub fn for_cookies(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Seals and opens the session tickets of a context with keys of this secret. Not while somebody uses it.
    pub fn use_for_tickets(&self, context: &SslContextRef) -> Result<(), Cause> {
        with_clean_queue(|| {
            let mut keys = [0; TICKET_KEYS];
            // One iteration is enough: the file is random, and not a password that could be found by trying.
            pbkdf2_hmac(self.0.bytes(), b"dv_dtls tickets", 1, MessageDigest::sha256(), &mut keys)?;
            let (command, len, at) = (sys::SSL_CTRL_SET_TLSEXT_TICKET_KEYS, TICKET_KEYS as _, keys.as_mut_ptr().cast());
            // SAFETY: the context is alive, and there are so many bytes; libssl copies them.
            let set = unsafe { openssl_sys::SSL_CTX_ctrl(context.as_ptr(), command, len, at) };
            wipe::bytes(&mut keys);
            if set == 1 { Ok(()) } else { Err(Cause::openssl()) }
        })
    }
}
