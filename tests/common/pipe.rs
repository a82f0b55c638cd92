//! A wire in memory for plain SSLs, which keeps datagrams apart and loses none.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;

/// One end.
#[derive(Debug)]
pub struct Pipe {
    incoming: Rc<RefCell<VecDeque<Vec<u8>>>>,
    outgoing: Rc<RefCell<VecDeque<Vec<u8>>>>,
}

impl Pipe {
    pub fn pair() -> (Pipe, Pipe) {
        let (a, b) = (Rc::default(), Rc::default());
        (Pipe { incoming: Rc::clone(&a), outgoing: Rc::clone(&b) }, Pipe { incoming: b, outgoing: a })
    }

    /// The next datagram from the other end.
    pub fn get(&self) -> Option<Vec<u8>> {
        self.incoming.borrow_mut().pop_front()
    }

    /// Sends a datagram to the other end.
    pub fn put(&self, datagram: &[u8]) {
        self.outgoing.borrow_mut().push_back(datagram.to_vec());
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let datagram = self.get().ok_or(io::ErrorKind::WouldBlock)?;
        into[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl Write for Pipe {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.put(datagram);
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
