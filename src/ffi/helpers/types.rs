//! The types that the helpers share with their callers.

use libc::{c_void, sockaddr, sockaddr_in, sockaddr_in6};

/// Success.
#[cfg(not(dv_omit = "DV_OK"))]
pub const DV_OK: libc::c_int = 0;
/// Failure.
#[cfg(not(dv_omit = "DV_ERROR"))]
pub const DV_ERROR: libc::c_int = -1;
/// What dv_dtls_read() returns for a connection that is over.
pub(super) const DV_CLOSED: libc::c_int = -2;
/// The largest UDP payload, in bytes: no receive buffer needs to be larger.
#[cfg(not(dv_omit = "DTLS_RECORD_MAX_LEN"))]
pub const DTLS_RECORD_MAX_LEN: libc::c_int = 65535 - 8;

/// A link of an intrusive list for the program's own use. The library's table does not need it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(non_camel_case_types)]
pub struct dv_list_node {
    /// The next link, or NULL.
    pub next: *mut dv_list_node,
    /// The previous link, or NULL.
    pub prev: *mut dv_list_node,
}

/// What the list member of [`dv_udp_conn_t`] is: in C a macro, which a program may define as a list link of its own.
#[allow(non_camel_case_types)]
pub type DV_LIST_NODE = dv_list_node;

/// The address of a peer, and the key of its connection. Clear the whole union before you write an address into it.
#[cfg(not(dv_omit = "types"))]
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub union dv_udp_conn_key_t {
    /// The address family.
    pub addr: sockaddr,
    /// The address, when the family is AF_INET.
    pub addr4: sockaddr_in,
    /// The address, when the family is AF_INET6.
    pub addr6: sockaddr_in6,
}

/// A connection. The program may read all members, change `list`, and use `ssl` between two calls of the library: to
/// ask for the peer's certificate, but also with SSL_read() and SSL_write().
#[cfg(not(dv_omit = "types"))]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct dv_udp_conn_t {
    /// A link for a list of the program's own. dv_dtls_conn_free() unlinks it.
    pub list: DV_LIST_NODE,
    /// The peer's address.
    pub key: dv_udp_conn_key_t,
    /// The SSL, which belongs to the connection. NULL once the library has given the connection up.
    pub ssl: *mut c_void,
    /// The BIO that `ssl` reads from; NULL when `ssl` is. Each BIO_write() puts in one datagram; up to 64 can wait
    /// there.
    pub rbio: *mut c_void,
    /// The BIO that `ssl` writes to; NULL when `ssl` is. What SSL_write() has written waits there for
    /// dv_dtls_msg_send(), for the next call about the connection, or for BIO_read(), which takes as many whole
    /// datagrams as fit. When 256 KiB wait, SSL_write() fails with SSL_ERROR_WANT_WRITE.
    pub wbio: *mut c_void,
}
