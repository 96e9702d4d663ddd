//! A TCP proxy that can break what passes through it.

use std::net::SocketAddr;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on to `target`, until it is told to break them.
pub struct Proxy {
    pub addr: SocketAddr,
    /// Counts the cuts; an odd number means that new connections are refused as well.
    state: watch::Sender<u64>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (state, changes) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut changes = changes.clone();
                changes.mark_unchanged();
                if *changes.borrow() % 2 == 1 {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = changes.changed() => {}
                    }
                });
            }
        });
        Self { addr, state }
    }

    /// Breaks every connection; new ones are passed on.
    pub fn cut(&self) {
        self.state.send_modify(|count| *count += 2);
    }

    /// Breaks every connection, and refuses new ones until [`Self::heal`].
    pub fn block(&self) {
        self.state.send_modify(|count| *count |= 1);
    }

    /// Passes connections on again.
    pub fn heal(&self) {
        self.state.send_modify(|count| *count += *count % 2);
    }
}
