//! Whom to connect to.

use std::ffi::CString;
use std::net::{IpAddr, SocketAddr};

use openssl::ssl::{SslRef, SslVerifyMode};

use super::Error;
use crate::tls::peer;
use crate::tls::resumption::Resumption;

/// Whom to connect to, and how. Made with [`Connect::to`]; the fields say the rest.
#[derive(Clone, Copy)]
pub struct Connect<'a> {
    /// The server's address.
    pub to: SocketAddr,
    /// The address of ours to send from; `None`: whatever the kernel chooses.
    pub from: Option<IpAddr>,
    /// The DNS name or IP address that the server's certificate must carry. A DNS name is told to the server (SNI). Without
    /// a name any certificate will do that the context trusts.
    pub name: Option<&'a str>,
    /// An earlier session with this server to resume, from [`Info::resumption`](super::Info::resumption). When the server
    /// has forgotten it, or its certificate would not do now, there is a whole handshake.
    pub resume: Option<&'a Resumption>,
}

impl<'a> Connect<'a> {
    /// To the server at `to`; nothing else is said.
    pub fn to(to: SocketAddr) -> Connect<'a> {
        Connect { to, from: None, name: None, resume: None }
    }

    /// To the server at `to`, which must be called `name`.
    pub fn to_named(to: SocketAddr, name: &'a str) -> Connect<'a> {
        Connect { name: Some(name), ..Connect::to(to) }
    }

    /// Sets all this on an SSL whose handshake has not begun.
    pub(super) fn prepare(&self, ssl: &mut SslRef, verify: bool) -> Result<(), Error> {
        if verify {
            ssl.set_verify(SslVerifyMode::PEER);
        }
        let invalid = |why: &dyn std::fmt::Display| Error::Invalid(why.to_string());
        if let Some(name) = self.name {
            let name = CString::new(name).map_err(|why| invalid(&why))?;
            peer::set_name(ssl, &name).map_err(|why| invalid(&why))?;
        }
        match self.resume {
            Some(resumption) => resumption.offer(ssl).map_err(|why| invalid(&why)),
            None => Ok(()),
        }
    }
}
