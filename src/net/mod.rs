//! Sockets and system calls.

pub mod sys;
