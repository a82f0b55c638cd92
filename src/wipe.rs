//! Secrets are overwritten as soon as they are no longer needed.

use std::hint::black_box;

/// More stack than any call that works with keys uses. Unoptimized code uses a lot.
const STACK: usize = if cfg!(debug_assertions) { 64 * 1024 } else { 8 * 1024 };

/// Overwrites a secret, even though nothing reads it again: the compiler must not leave that out.
pub fn bytes(secret: &mut [u8]) {
    secret.fill(0);
    black_box(secret);
}

/// Overwrites what the calls that have just returned left on the stack: a value that is moved leaves behind a copy that no
/// name refers to. Those calls must have had frames of their own (`#[inline(never)]`).
#[inline(never)]
pub fn stack() {
    black_box(&mut [0; STACK]);
}
