//! Counts round trips: how often a client spoke after it was answered.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::Failure;

/// Passes on what it gets, in threads that end with their connections.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    trips: Arc<AtomicU64>,
}

impl Relay {
    pub(crate) fn to(server: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let trips = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&trips);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(server) = TcpStream::connect(server) {
                    let _ = connect(client, server, &counted);
                }
            }
        });
        Ok(Self { address, trips })
    }

    /// So far.
    pub(crate) fn trips(&self) -> u64 {
        self.trips.load(Ordering::Relaxed)
    }
}

fn connect(client: TcpStream, server: TcpStream, trips: &Arc<AtomicU64>) -> Result<(), Failure> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let was_answered = Arc::new(AtomicBool::new(true));
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let (trips, answered) = (Arc::clone(trips), Arc::clone(&was_answered));
    thread::spawn(move || {
        pass(from, to, || {
            if answered.swap(false, Ordering::Relaxed) {
                trips.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    thread::spawn(move || pass(server, client, || was_answered.store(true, Ordering::Relaxed)));
    Ok(())
}

fn pass(mut from: TcpStream, mut to: TcpStream, came: impl Fn()) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 {
            break;
        }
        came();
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
