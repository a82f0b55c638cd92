//! The sans-IO endpoint, proved on a simulated network.

mod bounds;
mod contexts;
mod handshake;
mod hostile;
mod interop;
mod lifetime;
mod net;
