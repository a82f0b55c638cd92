//! Sockets, batches of datagrams, worker threads, and the server's loop.

mod export;
pub mod handler;
mod mailbox;
pub mod server;
mod shared;
mod socket;
mod steer;
pub mod sys;
mod time_share;
mod worker;
