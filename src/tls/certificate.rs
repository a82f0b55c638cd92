//! Certificates and keys out of PEM files.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::SslContextRef;
use openssl::stack::Stack;
use openssl::x509::{X509, X509Crl};

use super::cause::{Cause, quoted, with_clean_queue};
use super::sys;
use crate::wipe;

/// Files of certificates and keys are small; a larger one is something else.
const FILE_AT_MOST: usize = 16 << 20;

/// Room for what is read at first: enough for most of them.
const ROOM: usize = 16 << 10;

/// The contents of a file. It may hold a private key, so it is wiped when dropped.
pub struct Contents(Vec<u8>);

impl Contents {
    /// Reads the whole file, which may be a pipe.
    pub fn of(path: &CStr) -> Result<Contents, Cause> {
        let mut file = File::open(Path::new(OsStr::from_bytes(path.to_bytes())))?;
        let mut contents = Contents(Vec::with_capacity(ROOM));
        loop {
            let room = contents.0.capacity() - contents.0.len();
            let read = file.by_ref().take(room as u64).read_to_end(&mut contents.0)?;
            if contents.0.len() > FILE_AT_MOST {
                return Err(format!("the file is larger than {FILE_AT_MOST} bytes").into());
            }
            if read < room {
                break;
            }
            contents = contents.with_more_room();
        }
        if contents.0.is_empty() { Err("the file is empty".into()) } else { Ok(contents) }
    }

    /// The same with twice the room. What it had is wiped, which a vector that grows by itself leaves behind.
    fn with_more_room(self) -> Contents {
        let mut more = Contents(Vec::with_capacity(2 * self.0.capacity()));
        more.0.extend_from_slice(&self.0);
        more
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The certificates and revocation lists in it, in their order. None at all is an error.
    pub fn certificates(&self) -> Result<Certificates, Cause> {
        let found = Certificates::parse(&self.0)?;
        match (found.certificates.is_empty(), self.0[0]) {
            (false, _) => Ok(found),
            // What DER of a certificate begins with; PEM is text.
            (true, 0x30) => Err("no PEM certificate in it; it looks like DER".into()),
            (true, _) => Err("no PEM certificate in it".into()),
        }
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        wipe::bytes(&mut self.0);
    }
}

/// What a PEM file holds beside keys.
#[derive(Default)]
pub struct Certificates {
    /// The certificates, in the order of the file.
    pub certificates: Vec<X509>,
    /// The revocation lists, in the order of the file.
    pub revocations: Vec<X509Crl>,
}

impl Certificates {
    fn parse(pem: &[u8]) -> Result<Certificates, Cause> {
        let len = pem.len().try_into().map_err(|_| "the file is too large")?;
        // SAFETY: the BIO only reads `pem`, which outlives it; the stack and all that is in it are freed here, except the
        // members that are taken out, whose places are set to NULL so that X509_INFO_free leaves them alone.
        unsafe {
            let bio = openssl_sys::BIO_new_mem_buf(pem.as_ptr().cast(), len);
            if bio.is_null() {
                return Err(Cause::openssl());
            }
            // Without a callback nobody is asked for a password, and an encrypted key in the file is left alone.
            let stack = sys::PEM_X509_INFO_read_bio(bio, ptr::null_mut(), None, ptr::null_mut());
            openssl_sys::BIO_free_all(bio);
            if stack.is_null() {
                return Err(Cause::openssl());
            }
            let stack = stack.cast();
            let mut found = Certificates::default();
            for i in 0..openssl_sys::OPENSSL_sk_num(stack) {
                let info = openssl_sys::OPENSSL_sk_value(stack, i).cast::<sys::X509_INFO>();
                let x509 = ptr::replace(&raw mut (*info).x509, ptr::null_mut());
                if !x509.is_null() {
                    found.certificates.push(X509::from_ptr(x509));
                }
                let crl = ptr::replace(&raw mut (*info).crl, ptr::null_mut());
                if !crl.is_null() {
                    found.revocations.push(X509Crl::from_ptr(crl));
                }
                sys::X509_INFO_free(info);
            }
            openssl_sys::OPENSSL_sk_free(stack);
            Ok(found)
        }
    }
}

/// Gives the context a certificate with its chain and key. A second one of another key type stands beside the first; one
/// of the same key type replaces it. On an error the context is as it was.
pub fn use_certificate(ctx: &SslContextRef, certificate: &CStr, key: &CStr) -> Result<(), Cause> {
    with_clean_queue(|| {
        let identity = Identity::load(ctx, certificate, key)?;
        // SAFETY: all four are alive during the call, which takes references of its own to what it keeps. It checks
        // everything, also that key and certificate belong together, before it changes the context.
        let used = unsafe {
            let (own, private, others) = identity.as_ptrs();
            sys::SSL_CTX_use_cert_and_key(ctx.as_ptr(), own, private, others, 1)
        };
        if used == 1 { Ok(()) } else { Err(Cause::openssl().about(files(certificate, key))) }
    })
}

/// Names both files.
pub fn files(certificate: &CStr, key: &CStr) -> String {
    format!("certificate file {} with key file {}", quoted(certificate), quoted(key))
}

/// A certificate with its chain and key.
pub struct Identity {
    /// The certificate itself.
    pub own: X509,
    others: Stack<X509>,
    private: PKey<Private>,
}

impl Identity {
    /// Reads the files. The context may have a password callback for the key.
    pub fn load(ctx: &SslContextRef, certificate: &CStr, key: &CStr) -> Result<Identity, Cause> {
        let about_certificate = |cause: Cause| cause.about(format_args!("certificate file {}", quoted(certificate)));
        let mut chain = Contents::of(certificate)
            .and_then(|contents| contents.certificates())
            .map_err(about_certificate)?
            .certificates
            .into_iter();
        let own = chain.next().ok_or("no certificate")?;
        let mut others = Stack::new()?;
        for other in chain {
            others.push(other)?;
        }
        let private = private_key(ctx, key).map_err(|cause| cause.about(format_args!("key file {}", quoted(key))))?;
        Ok(Identity { own, others, private })
    }

    /// The certificate, its key and its chain. The pointers are good as long as `self` is.
    pub fn as_ptrs(&self) -> (*mut openssl_sys::X509, *mut openssl_sys::EVP_PKEY, *mut openssl_sys::stack_st_X509) {
        (self.own.as_ptr(), self.private.as_ptr(), self.others.as_ptr())
    }
}

/// Reads the key. Only the program's own password callback is asked when it is encrypted, never a person.
fn private_key(ctx: &SslContextRef, path: &CStr) -> Result<PKey<Private>, Cause> {
    let contents = Contents::of(path)?;
    // SAFETY: the context is alive; these only read it.
    let (callback, user) = unsafe {
        (sys::SSL_CTX_get_default_passwd_cb(ctx.as_ptr()), sys::SSL_CTX_get_default_passwd_cb_userdata(ctx.as_ptr()))
    };
    // Without a callback, user data is the password itself; without either, PEM_def_callback would ask on the terminal.
    let callback = callback.or((!user.is_null()).then_some(sys::PEM_def_callback as sys::pem_password_cb));
    let mut unanswered = false;
    PKey::private_key_from_pem_callback(contents.bytes(), |room| {
        let Some(callback) = callback else {
            unanswered = true;
            return Err(ErrorStack::get());
        };
        let size = room.len().try_into().unwrap_or(i32::MAX);
        // SAFETY: the program set the callback for this use and this user data; it may write `size` bytes of `room`.
        let written = unsafe { callback(room.as_mut_ptr().cast(), size, 0, user) };
        match usize::try_from(written) {
            Ok(written) if written <= room.len() => Ok(written),
            _ => Err(ErrorStack::get()),
        }
    })
    .map_err(|stack| match unanswered {
        true => "the key is encrypted, and the context has no password callback".into(),
        false => stack.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::{env, fs, process};

    use super::*;

    #[test]
    fn a_file_that_is_a_little_too_large_is_refused() {
        let path = env::temp_dir().join(format!("dv-dtls-{}-too-large", process::id()));
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        let taken = [0, 1].map(|more| {
            File::create(&path).unwrap().set_len((FILE_AT_MOST + more) as u64).unwrap();
            Contents::of(&name).is_ok()
        });
        fs::remove_file(&path).unwrap();
        assert_eq!(taken, [true, false]);
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let why = Contents::of(c"/dev/zero").err().unwrap().to_string();
        assert_eq!(why, format!("the file is larger than {FILE_AT_MOST} bytes"));
    }
}
