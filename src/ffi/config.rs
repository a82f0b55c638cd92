//! How an endpoint, a server or the helpers behave.

use std::ffi::{CStr, OsStr};
use std::mem::offset_of;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::slice;
use std::time::Duration;

use libc::{c_char, c_int, c_void, size_t};

use super::error::{Failure, guard_result, invalid};
use crate::engine::endpoint::{Config, ConnectionIds, CookieSecret};
use crate::engine::settings::Settings;
use crate::net::server::ServerConfig;

/// The configuration of an endpoint, a server or the helpers. Let dv_config_init() or dv_dtls_config() fill it, then
/// change what should be different. Members are only ever added at the end.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct dv_config {
    /// sizeof(dv_config), as the program knows it.
    pub size: size_t,
    /// The largest number of sessions, handshakes included. At the limit, the source with the most sessions loses the
    /// one that has been idle longest.
    pub max_sessions: u32,
    /// The largest number of handshakes with clients that are in progress. At this limit, and at the one of a source,
    /// new clients get no answer; they will retransmit.
    pub max_handshakes: u32,
    /// The largest number of sessions of one source: an IPv4 address, or an IPv6 /64. At the limit, the one that has
    /// been idle longest is dropped.
    pub max_sessions_per_source: u32,
    /// The largest number of handshakes in progress of one source.
    pub max_handshakes_per_source: u32,
    /// The size of the largest IP packet to send, with IP and UDP headers: 256 to 65535 bytes.
    pub mtu: u32,
    /// How long to wait before a flight is retransmitted, in milliseconds, at least 10. Doubled each time.
    pub first_timeout_ms: u32,
    /// The longest wait before a retransmission, in milliseconds.
    pub longest_timeout_ms: u32,
    /// How long a handshake may take, in milliseconds.
    pub handshake_timeout_ms: u32,
    /// How long a session may hear nothing before it is closed, in milliseconds; 0: for ever.
    pub idle_timeout_ms: u32,
    /// How many messages of one session may wait for the program, at most 65535; more are dropped and counted.
    pub max_queued_messages: u32,
    /// The largest certificate chain of a peer, in bytes; a longer one fails the handshake. A session keeps the peer's
    /// own certificate, and where OpenSSL makes the records the whole chain: a peer with a trusted certificate can make
    /// it take this much more memory.
    pub max_certificate_chain: u32,
    /// How many bytes may wait for the program to take them, and how many for it to send them. Not used by the helpers.
    pub max_waiting_bytes: u32,
    /// Not 0: accept handshakes of clients. 0: the endpoint only connects.
    pub accept: c_int,
    /// Not 0: a server that we connect to must have a certificate that the SSL_CTX trusts, whatever its verify mode.
    pub verify_server: c_int,
    /// Not 0: while a session is idle, free the memory that it needs only for traffic.
    pub release_buffers: c_int,
    /// The length of cookie_secret in bytes, at least 16.
    pub cookie_secret_len: u32,
    /// The secret that cookies are made with: the same on all servers that share an address. NULL: a random one. It is
    /// copied.
    pub cookie_secret: *const c_void,
    /// With cookie_secret: Unix time minus the time that the endpoint is given, in microseconds. The servers' clocks
    /// may differ by a minute.
    pub unix_offset_us: u64,
    /// Servers only: the number of threads, 1 to 256. Each has sockets and sessions of its own, and a client stays with
    /// one of them. The limits of sessions and handshakes hold for the whole server, max_waiting_bytes for each thread.
    pub workers: u32,
    /// Servers only: the size of each socket's kernel buffers, in bytes. Getting less is no error, as the system has
    /// limits of its own.
    pub socket_buffer: u32,
    /// Servers only. Not 0: let the kernel join and split datagrams (UDP_GRO, UDP_SEGMENT), if it can.
    pub offload: c_int,
    /// Servers only. Not 0: receive handshakes on sockets of their own, if the kernel can steer them there.
    pub steer_handshakes: c_int,
    /// The path of a file of at least 16 random bytes, or NULL. Servers that share it accept each other's cookies and
    /// session tickets, and their own from before a restart; dv_server_new() and each dv_server_reload() read it. The
    /// helpers use it for cookies (dv_dtls_set_config()). An endpoint ignores it: pass the file's contents as
    /// cookie_secret.
    pub secret_file: *const c_char,
    /// Not 0: for DTLS 1.2 with AES-GCM or ChaCha20-Poly1305, OpenSSL makes only the handshake, and the library makes
    /// the records, in a fraction of the time and memory. 0: OpenSSL makes both, as it always does for the helpers.
    pub native_records: c_int,
    /// Not 0: refuse handshakes without an extended master secret (RFC 7627).
    pub require_extended_master_secret: c_int,
    /// Not 0: use connection IDs (RFC 9146) with peers that support them, so that a session survives a change of the
    /// peer's address. Requires native_records, and its cipher suites: a client then offers no others. The first
    /// endpoint with this setting changes the SSL_CTX: while it is being made, nobody else may use that, nor make
    /// another endpoint with it.
    pub connection_ids: c_int,
    /// The length of our connection IDs in bytes, at most 32. 0: use only the peers' IDs, and find sessions by address.
    /// All implementations support 8; some support no more than 10.
    pub connection_id_len: u32,
    /// Records with the peer's connection ID are padded to a multiple of this many bytes, at most 64; 0: no padding.
    pub connection_id_padding: u32,
    /// Not 0: check a peer's new address by asking the peer there (RFC 9853), if it supports that.
    pub routability_checks: c_int,
    /// The length of connection_id_server_id in bytes: at most 24, and less than connection_id_len.
    pub connection_id_server_id_len: u32,
    /// A prefix of our connection IDs, in clear, that tells a load balancer which server a datagram is for. A server
    /// with several workers adds one more byte. The rest of connection_id_len, at least one byte, is random.
    pub connection_id_server_id: [u8; 24],
    /// How long an export may take to be written, and how long an import waits for more from its pipe or socket, in
    /// milliseconds; 0: for ever. An export that fails leaves the sessions as they were.
    pub export_timeout_ms: u32,
}

const SECRET_MIN: u32 = 16;

/// Fills a configuration with the defaults, which suit a server that is open to the world.
///
/// - `config`: receives the configuration
/// - `size`: sizeof(dv_config)
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
///
/// # Safety
/// `config` is NULL or has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_config_init(config: *mut dv_config, size: size_t) -> c_int {
    guard_result("dv_config_init", || {
        // SAFETY: the caller vouches for `size` bytes.
        unsafe { fill(config, size, &dv_config { size, ..dv_config::default() }) }?;
        Ok(0)
    })
}

/// A struct that grows: later headers have more behind what there is, and a program has as much of it as its own header knew.
/// It says how much that is, where we fill it in an argument, where we read it in the first member.
///
/// # Safety
/// Any bytes are one.
pub(in crate::ffi) unsafe trait Growing: Copy {
    /// What it is called in messages.
    const NAME: &str;
    /// Bytes up to the end of what the first header had.
    const LEAST: usize;

    /// Whether `size` can be that of one. No program has less than the first header had: who says so has taken the size of a
    /// pointer, as a rule. No header has more than a page; such a size stood in memory before, nobody has set it, and to write
    /// so much would overwrite what is behind the struct. And members end where words do.
    fn check(size: size_t) -> Result<(), Failure> {
        const MOST: usize = 4096;
        if (Self::LEAST..=MOST).contains(&size) && size.is_multiple_of(align_of::<size_t>()) {
            return Ok(());
        }
        Err(invalid(&format!("{size} is not the size of a {}, which is {}", Self::NAME, size_of::<Self>())))
    }
}

/// Fills a struct of the program's, whose header may be older or newer: what it has behind ours is zero.
///
/// # Safety
/// `to` is NULL or has `size` bytes.
pub(in crate::ffi) unsafe fn fill<T: Growing>(to: *mut T, size: usize, from: &T) -> Result<(), Failure> {
    if to.is_null() {
        return Err(invalid(&format!("the {} is NULL", T::NAME)));
    }
    T::check(size)?;
    // SAFETY: by contract.
    unsafe {
        ptr::write_bytes(to.cast::<u8>(), 0, size);
        ptr::copy_nonoverlapping(ptr::from_ref(from).cast::<u8>(), to.cast(), size.min(size_of::<T>()));
    }
    Ok(())
}

/// Takes over a struct of the program's: what its header did not have yet stays as it is, and what it has behind ours must be
/// zero.
///
/// # Safety
/// `from` begins with its size, and has as many bytes.
pub(in crate::ffi) unsafe fn take<T: Growing>(from: *const T, to: &mut T) -> Result<(), Failure> {
    // SAFETY: by contract.
    unsafe {
        let size = from.cast::<size_t>().read();
        T::check(size)?;
        let ours = size.min(size_of::<T>());
        let unknown = slice::from_raw_parts(from.cast::<u8>().add(ours), size - ours);
        if unknown.iter().any(|byte| *byte != 0) {
            let name = T::NAME;
            return Err(invalid(&format!("the {name} sets something that this version of the library does not know")));
        }
        ptr::copy_nonoverlapping(from.cast::<u8>(), ptr::from_mut(to).cast(), ours);
    }
    Ok(())
}

// SAFETY: numbers, and pointers that nobody follows before they were looked at.
unsafe impl Growing for dv_config {
    const NAME: &str = "dv_config";
    const LEAST: usize = offset_of!(dv_config, export_timeout_ms) + size_of::<u32>();
}

// A member that is added must not come to lie where a program has padding now, which nobody sets.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<dv_config>() == dv_config::LEAST);

impl Default for dv_config {
    fn default() -> dv_config {
        let server = ServerConfig::default();
        let Config { settings, accept, verify_server, max_waiting_bytes, export_timeout, .. } = server.endpoint;
        let ids = ConnectionIds::default();
        dv_config {
            max_waiting_bytes: max_waiting_bytes as u32,
            accept: accept.into(),
            verify_server: verify_server.into(),
            workers: server.workers as u32,
            socket_buffer: server.socket_buffer as u32,
            offload: server.offload.into(),
            steer_handshakes: server.steer_handshakes.into(),
            connection_id_len: ids.len as u32,
            connection_id_padding: ids.padding.into(),
            routability_checks: ids.routability_checks.into(),
            export_timeout_ms: milliseconds(export_timeout),
            ..dv_config::from(&settings)
        }
    }
}

impl From<&Settings> for dv_config {
    /// What concerns the helpers too; the rest is 0.
    fn from(settings: &Settings) -> dv_config {
        dv_config {
            size: size_of::<dv_config>(),
            max_sessions: settings.max_connections,
            max_handshakes: settings.max_handshakes,
            max_sessions_per_source: settings.max_connections_per_source,
            max_handshakes_per_source: settings.max_handshakes_per_source,
            mtu: settings.mtu.into(),
            first_timeout_ms: milliseconds(settings.first_timeout),
            longest_timeout_ms: milliseconds(settings.longest_timeout),
            handshake_timeout_ms: milliseconds(settings.handshake_timeout),
            idle_timeout_ms: milliseconds(settings.idle_timeout),
            max_queued_messages: settings.max_queued_messages.into(),
            max_certificate_chain: settings.max_certificate_chain,
            max_waiting_bytes: 0,
            accept: 0,
            verify_server: 0,
            release_buffers: settings.release_buffers.into(),
            cookie_secret_len: 0,
            cookie_secret: ptr::null(),
            unix_offset_us: 0,
            workers: 0,
            socket_buffer: 0,
            offload: 0,
            steer_handshakes: 0,
            secret_file: ptr::null(),
            native_records: settings.native_records.into(),
            require_extended_master_secret: settings.require_extended_master_secret.into(),
            connection_ids: 0,
            connection_id_len: 0,
            connection_id_padding: 0,
            routability_checks: 0,
            connection_id_server_id_len: 0,
            connection_id_server_id: [0; 24],
            export_timeout_ms: 0,
        }
    }
}

impl dv_config {
    /// What stands at `config`, with the defaults for what the program's header did not have yet; all defaults for NULL.
    ///
    /// # Safety
    /// `config` is NULL or as long as its `size` says, and so is its secret; the file's name ends with NUL.
    pub(in crate::ffi) unsafe fn read(config: *const dv_config) -> Result<Config, Failure> {
        // SAFETY: by contract.
        unsafe { dv_config::known(config)?.convert() }
    }

    /// The same for a server.
    ///
    /// # Safety
    /// As for [`dv_config::read`].
    pub(in crate::ffi) unsafe fn read_for_server(config: *const dv_config) -> Result<ServerConfig, Failure> {
        // SAFETY: by contract.
        let (known, endpoint) = unsafe { (dv_config::known(config)?, dv_config::read(config)?) };
        // SAFETY: by contract it ends with NUL.
        let secret_file = (!known.secret_file.is_null()).then(|| unsafe { CStr::from_ptr(known.secret_file) });
        Ok(ServerConfig {
            secret_file: secret_file.map(|path| OsStr::from_bytes(path.to_bytes()).into()),
            endpoint,
            workers: known.workers as usize,
            offload: known.offload != 0,
            steer_handshakes: known.steer_handshakes != 0,
            socket_buffer: known.socket_buffer as usize,
        })
    }

    /// # Safety
    /// As for [`dv_config::read`].
    unsafe fn known(config: *const dv_config) -> Result<dv_config, Failure> {
        let mut known = dv_config::default();
        if !config.is_null() {
            // SAFETY: by contract. All bytes make valid members, of which the size is the first.
            unsafe { take(config, &mut known)? };
        }
        Ok(known)
    }

    /// # Safety
    /// The secret is NULL or as long as is said.
    unsafe fn convert(&self) -> Result<Config, Failure> {
        let u16_of = |number: u32, name: &str| {
            u16::try_from(number).map_err(|_| invalid(&format!("config.{name} is {number}: at most 65535")))
        };
        let ms = |milliseconds: u32| Duration::from_millis(milliseconds.into());
        let cookie_secret = if self.cookie_secret.is_null() {
            None
        } else if self.cookie_secret_len < SECRET_MIN {
            return Err(invalid("config.cookie_secret has less than 16 bytes"));
        } else {
            // SAFETY: by contract.
            let secret =
                unsafe { slice::from_raw_parts(self.cookie_secret.cast::<u8>(), self.cookie_secret_len as usize) };
            Some(CookieSecret::new(secret, self.unix_offset_us))
        };
        let server_id = self.connection_id_server_id.get(..self.connection_id_server_id_len as usize);
        let server_id = server_id.ok_or_else(|| invalid("config.connection_id_server_id_len is more than 24"))?;
        let connection_ids = ConnectionIds {
            len: self.connection_id_len as usize,
            server_id: server_id.to_vec(),
            padding: u16_of(self.connection_id_padding, "connection_id_padding")?,
            routability_checks: self.routability_checks != 0,
        };
        Ok(Config {
            connection_ids: (self.connection_ids != 0).then_some(connection_ids),
            settings: Settings {
                mtu: u16_of(self.mtu, "mtu")?,
                max_connections: self.max_sessions,
                max_handshakes: self.max_handshakes,
                max_connections_per_source: self.max_sessions_per_source,
                max_handshakes_per_source: self.max_handshakes_per_source,
                first_timeout: ms(self.first_timeout_ms),
                longest_timeout: ms(self.longest_timeout_ms),
                handshake_timeout: ms(self.handshake_timeout_ms),
                idle_timeout: ms(self.idle_timeout_ms),
                max_queued_messages: u16_of(self.max_queued_messages, "max_queued_messages")?,
                max_certificate_chain: self.max_certificate_chain,
                release_buffers: self.release_buffers != 0,
                native_records: self.native_records != 0,
                require_extended_master_secret: self.require_extended_master_secret != 0,
            },
            accept: self.accept != 0,
            cookie_secret,
            verify_server: self.verify_server != 0,
            max_waiting_bytes: self.max_waiting_bytes as usize,
            export_timeout: ms(self.export_timeout_ms),
        })
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct whose first header ended with `first`.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Grown {
        size: size_t,
        first: u64,
        later: u64,
    }

    // SAFETY: numbers.
    unsafe impl Growing for Grown {
        const NAME: &str = "Grown";
        const LEAST: usize = offset_of!(Grown, later);
    }

    const DEFAULT: Grown = Grown { size: 0, first: 1, later: 2 };

    fn given(size: usize) -> Result<Grown, Failure> {
        let (program, mut known) = (Grown { size, first: 10, later: 20 }, DEFAULT);
        // SAFETY: no size that is read is longer than the struct.
        unsafe { take(&program, &mut known) }.map(|()| known)
    }

    #[test]
    fn what_an_older_header_did_not_have_keeps_its_default() {
        assert_eq!(given(16).unwrap(), Grown { size: 16, first: 10, later: 2 });
        assert_eq!(given(24).unwrap(), Grown { size: 24, first: 10, later: 20 });
        let mut program = Grown { size: 9, first: 9, later: 9 };
        // SAFETY: the program's struct is as long as is said.
        unsafe { fill(&mut program, 16, &Grown { size: 16, ..DEFAULT }) }.unwrap();
        assert_eq!(program, Grown { size: 16, first: 1, later: 9 });
    }

    #[test]
    fn no_header_has_these_sizes() {
        for size in [0, 1, 8, 12, 15, 17, 23, 4097, 4104, 0x5555_5555, usize::MAX] {
            assert!(given(size).is_err(), "{size}");
            let mut program = DEFAULT;
            // SAFETY: nothing is written.
            assert!(unsafe { fill(&mut program, size, &Grown { size, first: 9, later: 9 }) }.is_err(), "{size}");
            assert_eq!(program, DEFAULT);
        }
    }
}
