//! Declarations of libssl and libcrypto functions that `openssl-sys` lacks, and of macros of their headers.
//! Everything else comes from `openssl_sys` directly.

#![allow(non_camel_case_types)]

use libc::{c_char, c_int, c_uint, c_void, size_t};
use openssl_sys::{
    BIO, EVP_PKEY, SSL, SSL_CIPHER, SSL_CTX, SSL_SESSION, X509, X509_CRL, X509_STORE, X509_STORE_CTX,
    X509_VERIFY_PARAM, stack_st_SSL_CIPHER, stack_st_X509,
};

/// BIO_ADDR of <openssl/bio.h>.
pub enum BIO_ADDR {}

pub const DTLS_CTRL_HANDLE_TIMEOUT: c_int = 74;
pub const SSL_CTRL_GET_MAX_CERT_LIST: c_int = 50;
pub const SSL_CTRL_SET_MAX_CERT_LIST: c_int = 51;
pub const SSL_CTRL_SET_MAX_SEND_FRAGMENT: c_int = 52;
pub const SSL_CTRL_SET_TLSEXT_TICKET_KEYS: c_int = 59;

/// What SSL_want says when the last call waited for nothing.
pub const SSL_NOTHING: c_int = 1;

/// Asked of a security callback: may this protocol version be used?
pub const SSL_SECOP_VERSION: c_int = 9;

/// What PEM_X509_INFO_read_bio makes of one object; the members behind these two are never looked at.
#[repr(C)]
pub struct X509_INFO {
    pub x509: *mut X509,
    pub crl: *mut X509_CRL,
}

/// STACK_OF(X509_INFO).
pub enum stack_st_X509_INFO {}

pub type pem_password_cb = unsafe extern "C" fn(*mut c_char, c_int, c_int, *mut c_void) -> c_int;

pub type security_cb =
    unsafe extern "C" fn(*const SSL, *const SSL_CTX, c_int, c_int, c_int, *mut c_void, *mut c_void) -> c_int;

pub const SSL_OP_NO_ENCRYPT_THEN_MAC: u64 = 1 << 19;

pub const SSL_R_EXCESSIVE_MESSAGE_SIZE: c_int = 152;
pub const SSL_R_COOKIE_GEN_CALLBACK_FAILURE: c_int = 400;
pub const SSL_R_NO_VERIFY_COOKIE_CALLBACK: c_int = 403;

pub const BIO_TYPE_SOURCE_SINK: c_int = 0x0400;

pub const BIO_CTRL_RESET: c_int = 1;
pub const BIO_CTRL_PENDING: c_int = 10;
pub const BIO_CTRL_DGRAM_SET_MTU: c_int = 42;
pub const BIO_CTRL_DGRAM_GET_PEER: c_int = 46;
pub const BIO_CTRL_DGRAM_GET_FALLBACK_MTU: c_int = 47;
pub const BIO_CTRL_DGRAM_GET_MTU_OVERHEAD: c_int = 49;

unsafe extern "C" {
    pub fn SSL_want(ssl: *const SSL) -> c_int;
    pub fn SSL_is_dtls(ssl: *const SSL) -> c_int;
    pub fn SSL_set_options(ssl: *mut SSL, options: u64) -> u64;
    /// As in `openssl_sys`, but for a function that is unsafe to call.
    #[link_name = "SSL_CTX_set_cookie_generate_cb"]
    pub fn set_cookie_generate_cb(
        ctx: *mut SSL_CTX,
        cb: Option<unsafe extern "C" fn(*mut SSL, *mut u8, *mut c_uint) -> c_int>,
    );
    /// As in `openssl_sys`, but for a function that is unsafe to call.
    #[link_name = "SSL_CTX_set_cookie_verify_cb"]
    pub fn set_cookie_verify_cb(
        ctx: *mut SSL_CTX,
        cb: Option<unsafe extern "C" fn(*mut SSL, *const u8, c_uint) -> c_int>,
    );
    pub fn ERR_peek_error() -> libc::c_ulong;
    pub fn ERR_set_mark() -> c_int;
    pub fn ERR_pop_to_mark() -> c_int;
    pub fn SSL_get_security_level(ssl: *const SSL) -> c_int;
    pub fn SSL_get_ciphers(ssl: *const SSL) -> *mut stack_st_SSL_CIPHER;
    pub fn SSL_get_pending_cipher(ssl: *const SSL) -> *const SSL_CIPHER;
    pub fn SSL_CIPHER_find(ssl: *mut SSL, number: *const u8) -> *const SSL_CIPHER;
    pub fn SSL_CIPHER_is_aead(cipher: *const SSL_CIPHER) -> c_int;
    pub fn SSL_SESSION_new() -> *mut SSL_SESSION;
    pub fn SSL_SESSION_get_max_fragment_length(session: *const SSL_SESSION) -> u8;
    pub fn SSL_SESSION_is_resumable(session: *const SSL_SESSION) -> c_int;
    pub fn SSL_SESSION_set1_id(session: *mut SSL_SESSION, id: *const u8, len: c_uint) -> c_int;
    pub fn SSL_SESSION_set_protocol_version(session: *mut SSL_SESSION, version: c_int) -> c_int;
    pub fn DTLSv1_listen(ssl: *mut SSL, client: *mut BIO_ADDR) -> c_int;
    pub fn DTLS_set_timer_cb(ssl: *mut SSL, cb: Option<unsafe extern "C" fn(*mut SSL, c_uint) -> c_uint>);
    pub fn DTLS_get_data_mtu(ssl: *const SSL) -> size_t;
    pub fn SSL_free_buffers(ssl: *mut SSL) -> c_int;
    pub fn SSL_alloc_buffers(ssl: *mut SSL) -> c_int;
    pub fn SSL_CTX_use_cert_and_key(
        ctx: *mut SSL_CTX,
        x509: *mut X509,
        pkey: *mut EVP_PKEY,
        chain: *mut stack_st_X509,
        replace: c_int,
    ) -> c_int;
    pub fn SSL_use_cert_and_key(
        ssl: *mut SSL,
        x509: *mut X509,
        pkey: *mut EVP_PKEY,
        chain: *mut stack_st_X509,
        replace: c_int,
    ) -> c_int;
    pub fn SSL_certs_clear(ssl: *mut SSL);
    pub fn SSL_CTX_set_cert_cb(
        ctx: *mut SSL_CTX,
        cb: Option<unsafe extern "C" fn(*mut SSL, *mut c_void) -> c_int>,
        user: *mut c_void,
    );
    pub fn SSL_CTX_get_default_passwd_cb(ctx: *mut SSL_CTX) -> Option<pem_password_cb>;
    pub fn SSL_CTX_get_default_passwd_cb_userdata(ctx: *mut SSL_CTX) -> *mut c_void;
    pub fn SSL_CTX_get_ssl_method(ctx: *const SSL_CTX) -> *const openssl_sys::SSL_METHOD;
    pub fn SSL_CTX_set_security_callback(ctx: *mut SSL_CTX, cb: Option<security_cb>);
    pub fn SSL_CTX_get_security_callback(ctx: *const SSL_CTX) -> Option<security_cb>;
    pub fn SSL_in_before(ssl: *const SSL) -> c_int;
    pub fn X509_STORE_CTX_get0_param(store: *mut X509_STORE_CTX) -> *mut X509_VERIFY_PARAM;
    pub fn X509_STORE_CTX_set_default(store: *mut X509_STORE_CTX, name: *const c_char) -> c_int;
    pub fn X509_VERIFY_PARAM_set1(to: *mut X509_VERIFY_PARAM, from: *const X509_VERIFY_PARAM) -> c_int;
    pub fn X509_VERIFY_PARAM_get_hostflags(param: *const X509_VERIFY_PARAM) -> c_uint;
    pub fn X509_VERIFY_PARAM_get0_host(param: *mut X509_VERIFY_PARAM, number: c_int) -> *const c_char;
    pub fn X509_VERIFY_PARAM_get1_ip_asc(param: *mut X509_VERIFY_PARAM) -> *mut c_char;
    pub fn X509_STORE_add_crl(store: *mut X509_STORE, crl: *mut X509_CRL) -> c_int;
    pub fn X509_INFO_free(info: *mut X509_INFO);
    pub fn PEM_X509_INFO_read_bio(
        bio: *mut BIO,
        into: *mut stack_st_X509_INFO,
        cb: Option<pem_password_cb>,
        user: *mut c_void,
    ) -> *mut stack_st_X509_INFO;
    pub fn PEM_def_callback(buf: *mut c_char, size: c_int, writing: c_int, user: *mut c_void) -> c_int;
    pub fn BIO_ADDR_new() -> *mut BIO_ADDR;
    pub fn BIO_ADDR_free(addr: *mut BIO_ADDR);
    pub fn BIO_ADDR_rawmake(
        addr: *mut BIO_ADDR,
        family: c_int,
        address: *const c_void,
        len: size_t,
        port: libc::c_ushort,
    ) -> c_int;
    pub fn BIO_ADDR_family(addr: *const BIO_ADDR) -> c_int;
    pub fn BIO_ADDR_rawaddress(addr: *const BIO_ADDR, to: *mut c_void, len: *mut size_t) -> c_int;
    pub fn BIO_ADDR_rawport(addr: *const BIO_ADDR) -> libc::c_ushort;
    pub fn BIO_get_new_index() -> c_int;
    pub fn BIO_up_ref(bio: *mut BIO) -> c_int;
    pub fn BIO_free(bio: *mut BIO) -> c_int;
    pub fn BIO_method_type(bio: *const BIO) -> c_int;
}
