//! The system calls: the one file of this room with `unsafe`.
