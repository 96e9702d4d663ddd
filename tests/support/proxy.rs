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
    /// Whether nothing is passed on, and yet no connection is closed.
    frozen: watch::Sender<bool>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (state, changes) = watch::channel(0);
        let (frozen, freezes) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut changes = changes.clone();
                changes.mark_unchanged();
                if *changes.borrow() % 2 == 1 {
                    continue;
                }
                let mut freezes = freezes.clone();
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else {
                        return;
                    };
                    // Once frozen, a connection stays so: the network forgot it.
                    let silent = async {
                        let _ = freezes.wait_for(|frozen| *frozen).await;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => return,
                        _ = changes.changed() => return,
                        () = silent => {}
                    }
                    let _ = changes.changed().await;
                });
            }
        });
        Self {
            addr,
            state,
            frozen,
        }
    }

    /// Passes nothing on any more, in no connection, and closes none.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    /// Passes new connections on; those that were frozen stay open and silent.
    pub fn thaw(&self) {
        self.frozen.send_replace(false);
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
