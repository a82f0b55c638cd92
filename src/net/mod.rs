//! Sockets, batches of datagrams, worker threads, and the server's loop.

mod export;
pub mod handler;
mod mailbox;
pub mod server;
mod share;
mod shared;
mod socket;
mod steer;
pub mod sys;
mod worker;
