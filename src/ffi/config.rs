//! How an endpoint is to behave.

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

/// How an endpoint, a server or the helpers are to behave. Let dv_config_init or dv_dtls_config fill it, then change what is
/// to be different. Members are only ever added at the end.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct dv_config {
    /// sizeof(dv_config), as the program knows it.
    pub size: size_t,
    /// Sessions at once, handshakes included; at the limit the longest idle one of the fullest source goes.
    pub max_sessions: u32,
    /// Handshakes with clients in progress at once. At this limit, and at that of a source, newcomers are not answered; they
    /// ask again.
    pub max_handshakes: u32,
    /// Sessions from one source: an IPv4 address, or an IPv6 /64. At the limit its own longest idle one goes.
    pub max_sessions_per_source: u32,
    /// Handshakes in progress from one source.
    pub max_handshakes_per_source: u32,
    /// Bytes of the largest IP packet to send, IP and UDP headers included: 256 to 65535.
    pub mtu: u32,
    /// Wait before a flight is sent again for the first time, in milliseconds, 10 at least; it doubles after that.
    pub first_timeout_ms: u32,
    /// The longest wait between two repetitions, in milliseconds.
    pub longest_timeout_ms: u32,
    /// A handshake that takes longer is given up.
    pub handshake_timeout_ms: u32,
    /// A session that hears nothing for so long is closed; 0: never.
    pub idle_timeout_ms: u32,
    /// Messages of one session that wait for the program to take them, 65535 at most; more are dropped and counted.
    pub max_queued_messages: u32,
    /// Bytes of a peer's certificate chain; a handshake with a longer one fails. A session keeps its peer's own certificate as
    /// long as it lives, and the chain as well where OpenSSL makes the records: a session of somebody with a certificate that
    /// you trust can take so many bytes more.
    pub max_certificate_chain: u32,
    /// Bytes that wait for the program to take them, and as many that wait for it to send them. Not of the helpers.
    pub max_waiting_bytes: u32,
    /// Not 0: handshakes of clients are accepted. 0: the endpoint only connects.
    pub accept: c_int,
    /// Not 0: a server that we connect to must have a certificate that the SSL_CTX trusts, whatever its verify mode says.
    pub verify_server: c_int,
    /// Not 0: memory that idle sessions need only for traffic is given back.
    pub release_buffers: c_int,
    /// Bytes at cookie_secret; 16 at least.
    pub cookie_secret_len: u32,
    /// The secret behind the cookies, the same for all servers that answer for each other; NULL: a random one. It is
    /// copied.
    pub cookie_secret: *const c_void,
    /// With cookie_secret: Unix time minus the time that the endpoint is given, in microseconds. The clocks of the servers
    /// may be a minute apart.
    pub unix_offset_us: u64,
    /// Of a server: its threads, 1 to 256. Each has its own sockets and sessions, and a client stays with one of them. The limits of
    /// sessions and handshakes are those of the whole server, max_waiting_bytes is for each of them.
    pub workers: u32,
    /// Of a server: bytes of the kernel's buffers of each socket. Less is no error: the system has its own limits.
    pub socket_buffer: u32,
    /// Of a server. Not 0: the kernel may join and cut datagrams (UDP_GRO, UDP_SEGMENT), if it can.
    pub offload: c_int,
    /// Of a server. Not 0: handshakes come in at sockets of their own, if the kernel can see to that.
    pub steer_handshakes: c_int,
    /// Of a server: the name of a file with random bytes, 16 at least. Servers that share it accept each other's cookies and
    /// session tickets, and their own from before a restart. It is read by dv_server_new and by each dv_server_reload. NULL:
    /// none. Of the helpers (dv_dtls_set_config): the same for cookies. An endpoint does not look at it: give it what is in the
    /// file as cookie_secret.
    pub secret_file: *const c_char,
    /// Not 0: of DTLS 1.2 with AES-GCM or ChaCha20-Poly1305, OpenSSL makes the handshake and the library the records, in a
    /// fraction of the time and of the memory. 0: OpenSSL makes both, as it always does for the helpers.
    pub native_records: c_int,
    /// Not 0: handshakes whose master secret is not bound to them (RFC 7627) are refused.
    pub require_extended_master_secret: c_int,
    /// Not 0: sessions may be known by connection IDs (RFC 9146), with peers that want them too. A peer whose address changes
    /// then goes on without a handshake. They need native_records and its cipher suites: a client offers no others then. The
    /// first endpoint that wants them changes the SSL_CTX: while it is made nobody else may use that, other endpoints neither.
    pub connection_ids: c_int,
    /// Bytes of our connection IDs, at most 32. 0: only those of the peers are used, and they are found by their address. All
    /// implementations can do with 8; some can with no more than 10.
    pub connection_id_len: u32,
    /// What is sealed in records with the peer's connection ID is padded with zeros to a multiple of so many bytes, 64 at
    /// most; 0: no padding.
    pub connection_id_padding: u32,
    /// Not 0: the new address of a peer is checked by asking the peer there (RFC 9853), if it can do so too.
    pub routability_checks: c_int,
    /// Bytes at connection_id_server_id, 24 at most and fewer than connection_id_len.
    pub connection_id_server_id_len: u32,
    /// What our connection IDs begin with, in clear, so that a load balancer can tell which server a datagram is for. A server
    /// with several workers puts one more byte behind it. What is left of connection_id_len, at least one byte, is random.
    pub connection_id_server_id: [u8; 24],
    /// An export that takes longer to write, since nobody reads it, fails, and the sessions go on. An import fails when nothing
    /// comes from its pipe or socket for so long. 0: no limit.
    pub export_timeout_ms: u32,
}

const SECRET_MIN: u32 = 16;

/// Fills a configuration with the defaults: those of a server that is open to the world.
///
/// - `config`: the configuration
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
