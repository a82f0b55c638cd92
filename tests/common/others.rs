//! Clients that others wrote: OpenSSL's s_client, gnutls-cli, and a small one on Mbed TLS. Each trusts the test CA, sends each
//! line of its input as a message and prints what it gets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{certificates, compiler, directory, root, succeed};

/// OpenSSL's.
pub fn s_client(to: SocketAddr) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-dtls1_2", "-quiet", "-no_ign_eof", "-verify_return_error"]);
    command.args(["-connect", &to.to_string()]).arg("-CAfile").arg(certificates().join("ca.pem"));
    command
}

/// GnuTLS's, with further options.
pub fn gnutls_cli(to: SocketAddr, options: &[&str]) -> Command {
    let mut command = Command::new("gnutls-cli");
    command.args(["--udp", "--logfile=/dev/null", "--verify-hostname=localhost"]);
    command.arg("--x509cafile").arg(certificates().join("ca.pem")).args(options);
    command.args(["--port", &to.port().to_string(), &to.ip().to_string()]);
    command
}

/// The one on Mbed TLS.
pub fn mbedtls_client(to: SocketAddr) -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let program = directory().join("mbedtls_client");
        let mut cc = compiler();
        cc.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
        cc.arg(root().join("tests/c-clients/mbedtls_client.c"));
        succeed(cc.args(["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]));
        program
    });
    let mut command = Command::new(program);
    command.args([to.ip().to_string(), to.port().to_string()]).arg(certificates().join("ca.pem"));
    command
}
