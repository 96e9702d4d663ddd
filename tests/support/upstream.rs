//! A name server whose every answer is scripted. It listens on UDP and TCP, on the same port, and
//! runs on the test's own runtime, so that a paused clock works.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{AbortHandle, JoinSet};

/// A query that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `udp` or `tcp`.
    pub proto: &'static str,
    pub from: SocketAddr,
    pub packet: Vec<u8>,
}

/// What the server does about a query, in this order.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends this message.
    Send(Vec<u8>),
    /// Sends this message over UDP from another port: what a forger can do.
    Forge(Vec<u8>),
    /// Waits.
    Wait(Duration),
    /// Sends these octets as they are: over TCP without the length in front of a message.
    Raw(Vec<u8>),
    /// Closes the TCP connection.
    Close,
    /// Ends its own side of the TCP connection, and reads on.
    HalfClose,
}

type Script = dyn Fn(&Seen) -> Vec<Act> + Send + Sync;

/// The server; it stops when it is dropped.
pub struct Upstream {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: Vec<AbortHandle>,
}

impl Upstream {
    /// A server that does what `script` says.
    pub async fn new(script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = bind().await;
        Self::on(udp, tcp, script)
    }

    /// A server at the address of one that is gone.
    pub async fn at(
        addr: SocketAddr,
        script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        for _ in 0..1000 {
            // Its sockets are closed when the runtime gets to its tasks.
            tokio::task::yield_now().await;
            if let Ok(udp) = UdpSocket::bind(addr).await
                && let Ok(tcp) = TcpListener::bind(addr).await
            {
                return Self::on(udp, tcp, script);
            }
        }
        panic!("{addr} is not free again");
    }

    fn on(
        udp: UdpSocket,
        tcp: TcpListener,
        script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let script: Arc<Script> = Arc::new(script);
        let addr = udp.local_addr().unwrap();
        let seen = Arc::default();
        let serving = [
            tokio::spawn(serve_udp(udp, Arc::clone(&script), Arc::clone(&seen))).abort_handle(),
            tokio::spawn(serve_tcp(tcp, script, Arc::clone(&seen))).abort_handle(),
        ];
        Self {
            addr,
            seen,
            tasks: serving.into(),
        }
    }

    /// A server that answers each query with the message that `reply` makes of it.
    pub async fn answering(reply: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::new(move |seen| vec![Act::Send(reply(seen))]).await
    }

    /// A server that never answers.
    pub async fn silent() -> Self {
        Self::new(|_| Vec::new()).await
    }

    /// What arrived so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A UDP socket and a TCP listener on one port.
async fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port that is free for both UDP and TCP");
}

async fn serve_udp(socket: UdpSocket, script: Arc<Script>, log: Arc<Mutex<Vec<Seen>>>) {
    let socket = Arc::new(socket);
    let mut answers = JoinSet::new();
    let mut buf = vec![0; 65_535];
    while let Ok((len, from)) = socket.recv_from(&mut buf).await {
        let seen = Seen {
            proto: "udp",
            from,
            packet: buf[..len].to_vec(),
        };
        log.lock().unwrap().push(seen.clone());
        let (socket, acts) = (Arc::clone(&socket), script(&seen));
        answers.spawn(async move {
            for act in acts {
                match act {
                    Act::Send(message) | Act::Raw(message) => {
                        drop(socket.send_to(&message, from).await);
                    }
                    Act::Forge(message) => {
                        let forger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                        forger.send_to(&message, from).await.unwrap();
                    }
                    Act::Wait(time) => tokio::time::sleep(time).await,
                    Act::Close => return,
                    Act::HalfClose => {}
                }
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, script: Arc<Script>, log: Arc<Mutex<Vec<Seen>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, from)) = listener.accept().await {
        connections.spawn(serve_connection(
            stream,
            from,
            Arc::clone(&script),
            Arc::clone(&log),
        ));
    }
}

async fn serve_connection(
    mut stream: TcpStream,
    from: SocketAddr,
    script: Arc<Script>,
    log: Arc<Mutex<Vec<Seen>>>,
) {
    while let Ok(len) = stream.read_u16().await {
        let mut packet = vec![0; len.into()];
        if stream.read_exact(&mut packet).await.is_err() {
            return;
        }
        let seen = Seen {
            proto: "tcp",
            from,
            packet,
        };
        log.lock().unwrap().push(seen.clone());
        for act in script(&seen) {
            match act {
                Act::Send(message) => {
                    let mut frame = (message.len() as u16).to_be_bytes().to_vec();
                    frame.extend(message);
                    if stream.write_all(&frame).await.is_err() {
                        return;
                    }
                }
                Act::Raw(octets) => {
                    if stream.write_all(&octets).await.is_err() {
                        return;
                    }
                }
                Act::Forge(_) => {}
                Act::Wait(time) => tokio::time::sleep(time).await,
                Act::Close => return,
                Act::HalfClose => drop(stream.shutdown().await),
            }
        }
    }
}
