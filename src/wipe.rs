//! Secrets are overwritten when they are not needed any more.

use std::hint::black_box;

/// More than what the calls that work with keys need of the stack. Unoptimized they need much.
const STACK: usize = if cfg!(debug_assertions) { 64 * 1024 } else { 8 * 1024 };

/// Overwrites a secret, even where nobody will look at it again.
pub fn bytes(secret: &mut [u8]) {
    secret.fill(0);
    black_box(secret);
}

/// Overwrites what calls that have just returned have left on the stack: a value that is moved leaves a copy behind, which
/// nobody can name. Their frames must have been apart from the caller's (`#[inline(never)]`).
#[inline(never)]
pub fn stack() {
    black_box(&mut [0; STACK]);
}
