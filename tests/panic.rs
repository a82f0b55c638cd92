//! No panic crosses into C: each exported function panics inside, and its caller sees its error value.

// A test calls C functions with nothing: they panic before they look at it.
#![allow(clippy::undocumented_unsafe_blocks)]

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use dv_dtls::*;

/// What a signal handler may call, and what stands around a fork: a guard is more than these allow.
const SIGNAL_SAFE: [&str; 4] = ["dv_server_stop", "before_fork", "after_fork", "after_fork_in_child"];

/// NULL or 0.
trait Nothing {
    const NOTHING: Self;
}

impl<T> Nothing for *const T {
    const NOTHING: Self = null();
}

impl<T> Nothing for *mut T {
    const NOTHING: Self = null_mut();
}

impl<T> Nothing for Option<T> {
    const NOTHING: Self = None;
}

macro_rules! zero {
    ($($number:ty)*) => { $(impl Nothing for $number { const NOTHING: Self = 0; })* };
}
zero!(u16 i32 u32 u64 usize);

fn nothing<T: Nothing>() -> T {
    T::NOTHING
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

unsafe extern "C" fn count(_level: c_int, line: *const c_char, _user: *mut c_void) {
    let line = unsafe { CStr::from_ptr(line) }.to_string_lossy();
    assert!(line.contains("asked for by a test") && !line.contains('\n'), "{line}");
    PANICS.set(PANICS.get() + 1);
}

/// Calls each function, with as many arguments as there are underscores, while it is to panic. Gives the names.
macro_rules! panic_in {
    ($($name:ident($($argument:tt)*) => $error:expr;)*) => {{
        $(
            let before = PANICS.get();
            dv_test_panic_next();
            #[allow(unused_unsafe)]
            let given = unsafe { $name($({ let _ = stringify!($argument); nothing() }),*) };
            assert_eq!(given, $error, stringify!($name));
            assert_eq!(PANICS.get(), before + 1, "{} has not panicked", stringify!($name));
        )*
        vec![$(stringify!($name)),*]
    }};
}

#[test]
fn each_exported_function_gives_its_error_value() {
    unsafe { dv_set_log_callback(DV_LOG_ERROR, Some(count), null_mut()) };
    let mut tried = panic_in! {
        dv_openssl_ctx_set_ciphers(_ _) => DV_ERROR;
        dv_openssl_callback(_ _) => 0;
        dv_openssl_set_verify(_ _ _) => ();
        dv_openssl_get_verify_result(_) => DV_ERROR;
        dv_openssl_set_peer_name(_ _) => DV_ERROR;
        dv_ssl_certificate(_ _ _) => DV_ERROR;
        dv_ssl_add_certificate(_ _ _) => DV_ERROR;
        dv_ssl_share_tickets(_ _) => DV_ERROR;
        dv_add_epoll_event(_ _ _) => ();
        dv_dtls_conn_table_init() => ();
        dv_dtls_conn_hash(_) => 0;
        dv_dtls_conn_add(_) => ();
        dv_dtls_conn_del(_) => ();
        dv_dtls_conn_find(_) => null_mut();
        dv_dtls_msg_send(_ _ _ _) => DV_ERROR;
        dv_dtls_conn_new(_ _ _ _ _ _) => null_mut();
        dv_dtls_conn_free(_) => ();
        dv_dtls_read(_ _ _ _ _ _ _) => DV_ERROR;
        dv_dtls_write(_ _ _ _ _ _ _) => DV_ERROR;
        dv_dtls_shutdown(_ _ _) => ();
        dv_dtls_generate_cookie_callback(_ _ _) => 0;
        dv_dtls_verify_cookie_callback(_ _ _) => 0;
        dv_dtls_next_timeout() => -1;
        dv_dtls_handle_timeouts() => 0;
        dv_dtls_config(_ _) => DV_ERR_PANIC;
        dv_dtls_set_config(_) => DV_ERR_PANIC;
        dv_dtls_stats(_ _) => DV_ERR_PANIC;
        dv_set_log_callback(_ _ _) => ();
        dv_version() => null();
        dv_version_num() => 0;
        dv_check_version(_) => DV_ERROR;
        dv_strerror(_) => c"".as_ptr();
        dv_last_error() => c"".as_ptr();
        dv_config_init(_ _) => DV_ERR_PANIC;
        dv_endpoint_new(_ _ _) => DV_ERR_PANIC;
        dv_endpoint_free(_) => ();
        dv_endpoint_receive(_ _ _ _) => DV_ERR_PANIC;
        dv_endpoint_event(_ _) => DV_ERR_PANIC;
        dv_endpoint_transmit(_ _ _ _) => DV_ERR_PANIC;
        dv_endpoint_deadline(_) => u64::MAX;
        dv_endpoint_advance(_ _) => DV_ERR_PANIC;
        dv_endpoint_connect(_ _ _ _ _ _ _) => DV_ERR_PANIC;
        dv_endpoint_send(_ _ _ _) => DV_ERR_PANIC;
        dv_endpoint_close(_ _) => DV_ERR_PANIC;
        dv_endpoint_sessions(_ _ _) => DV_ERR_PANIC;
        dv_endpoint_stats(_ _ _) => DV_ERR_PANIC;
        dv_server_new(_ _ _ _ _) => DV_ERR_PANIC;
        dv_server_free(_) => ();
        dv_server_bind(_ _ _) => DV_ERR_PANIC;
        dv_server_bind_fd(_ _) => DV_ERR_PANIC;
        dv_server_start(_) => DV_ERR_PANIC;
        dv_server_join(_) => DV_ERR_PANIC;
        dv_server_run(_) => DV_ERR_PANIC;
        dv_server_shutdown(_ _) => DV_ERR_PANIC;
        dv_server_reload(_ _) => DV_ERR_PANIC;
        dv_server_send(_ _ _ _) => DV_ERR_PANIC;
        dv_server_close(_ _) => DV_ERR_PANIC;
        dv_server_stats(_ _ _) => DV_ERR_PANIC;
        dv_endpoint_export(_ _ _ _ _) => DV_ERR_PANIC;
        dv_endpoint_export_commit(_) => DV_ERR_PANIC;
        dv_endpoint_export_cancel(_) => DV_ERR_PANIC;
        dv_endpoint_import(_ _ _ _ _ _) => DV_ERR_PANIC;
        dv_server_export(_ _ _ _ _) => DV_ERR_PANIC;
        dv_server_export_commit(_) => DV_ERR_PANIC;
        dv_server_export_cancel(_) => DV_ERR_PANIC;
        dv_server_import(_ _ _ _ _) => DV_ERR_PANIC;
        dv_session_is_imported(_ _) => DV_ERR_PANIC;
        dv_session_set_user(_ _ _) => DV_ERR_PANIC;
        dv_session_user(_ _) => null_mut();
        dv_session_state(_ _) => DV_ERR_PANIC;
        dv_session_is_server(_ _) => DV_ERR_PANIC;
        dv_session_is_resumed(_ _) => DV_ERR_PANIC;
        dv_session_message_max(_ _) => DV_ERR_PANIC;
        dv_session_addresses(_ _ _ _) => DV_ERR_PANIC;
        dv_session_peer_certificate(_ _ _) => DV_ERR_PANIC;
        dv_session_verify_result(_ _ _) => DV_ERR_PANIC;
        dv_session_alpn(_ _ _ _) => DV_ERR_PANIC;
        dv_session_server_name(_ _ _ _) => DV_ERR_PANIC;
        dv_session_cipher(_ _ _ _) => DV_ERR_PANIC;
        dv_session_psk_identity(_ _ _ _) => DV_ERR_PANIC;
        dv_session_srtp_profile(_ _ _ _) => DV_ERR_PANIC;
        dv_session_failure(_ _ _ _) => DV_ERR_PANIC;
        dv_session_export_keying_material(_ _ _ _ _ _ _) => DV_ERR_PANIC;
        dv_session_resumption(_ _ _) => DV_ERR_PANIC;
        dv_session_connection_id(_ _ _ _) => DV_ERR_PANIC;
        dv_session_peer_connection_id(_ _ _ _) => DV_ERR_PANIC;
        dv_session_is_peer_proven(_ _) => DV_ERR_PANIC;
        dv_session_confirm_peer(_ _) => DV_ERR_PANIC;
        dv_resumption_free(_) => ();
    };
    unsafe { dv_set_log_callback(0, None, null_mut()) };
    tried.sort_unstable();
    let files = sources("src/ffi");
    let exported = files.iter().flat_map(|file| functions(file)).map(|(name, _)| name);
    let mut exported: Vec<_> =
        exported.filter(|name| name.starts_with("dv_") && !SIGNAL_SAFE.contains(&&name[..])).collect();
    exported.sort_unstable();
    assert_eq!(tried, exported);
}

#[test]
fn what_c_calls_is_one_call_of_the_guard() {
    let all: Vec<_> = ["src/ffi", "src/tls"].iter().flat_map(|folder| sources(folder)).collect();
    let functions: Vec<_> = all.iter().flat_map(|source| functions(source)).collect();
    // Those that C calls by pointer are among them: BIO methods, functions for ex_data, callbacks of libssl.
    assert!(
        functions.iter().any(|(name, _)| name == "bio_destroy") && functions.iter().any(|(name, _)| name == "free")
    );
    for (name, body) in functions {
        assert!(
            is_guarded(&body) || SIGNAL_SAFE.contains(&&name[..]),
            "{name} does more than one call of the guard:\n{body}"
        );
    }
}

fn is_guarded(body: &str) -> bool {
    let call = body.trim().trim_end_matches(';');
    // Those of a result are one call of the others each, with DV_ERR_PANIC.
    let call = call.strip_prefix("guard").map(|call| call.strip_prefix("_result").unwrap_or(call));
    let call = call.map(|call| call.strip_prefix("_uncancelled").unwrap_or(call));
    call.is_some_and(|arguments| balanced(arguments, '(', ')') == Some(arguments.len()))
}

/// The Rust files in a folder of the package.
fn sources(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let (folders, files): (Vec<_>, Vec<_>) = entries.map(|entry| entry.unwrap().path()).partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| sources(folder.to_str().unwrap()));
    files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).chain(below).collect()
}

/// The functions with the C ABI in a file: name and body, without comments. None of the files has a brace in a text.
fn functions(source: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(source).unwrap();
    let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let heads = code.match_indices("extern \"C\" fn ").map(|(at, head)| &code[at + head.len()..]);
    heads
        .map(|function| {
            let name: String = function.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let begin = function.find('{').unwrap();
            let body = &function[begin..];
            let end = balanced(body, '{', '}').unwrap();
            (name, body[1..end - 1].to_owned())
        })
        .collect()
}

/// Where the bracket closes that `text` begins with.
fn balanced(text: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == open) - i32::from(c == close);
        if depth == 0 {
            return (at > 0).then_some(at + 1);
        }
    }
    None
}
