//! DNS over TLS (RFC 7858): queries are sent as they come, and replies taken in any order.

use super::pool::{Dialer, Line};
use super::protocol::{Arrival, InFlight};
use super::{Cause, ExchangeError, Operation, Protocol};
use crate::dns::Header;
use crate::limits::{UPSTREAM_TLS_IN_FLIGHT, UPSTREAM_TLS_TARGET};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

type Waiter = oneshot::Sender<Result<Vec<u8>, ExchangeError>>;

/// How long saying goodbye to a server may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// Octets of queries that are sent with one call, about.
const BURST: usize = 16_384;

/// One TLS connection with the task that writes and reads; the task ends soon after this.
#[derive(Debug)]
pub(super) struct Pipeline {
    frames: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    local: SocketAddr,
    remote: SocketAddr,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    in_flight: InFlight<Waiter>,
    /// Why no further query can be sent.
    closed: Option<ExchangeError>,
}

impl Line for Pipeline {
    async fn open(dialer: &Dialer) -> Result<Self, ExchangeError> {
        let (stream, local) = dialer.connect().await?;
        let shared = Arc::new(Shared {
            local,
            remote: dialer.remote,
            table: Mutex::new(Table {
                in_flight: InFlight::new(UPSTREAM_TLS_IN_FLIGHT),
                closed: None,
            }),
        });
        let (frames, waiting) = mpsc::channel(UPSTREAM_TLS_TARGET);
        let task = Arc::clone(&shared);
        tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(stream);
            let end = tokio::select! {
                end = read(reader, &task) => end,
                end = write(writer, waiting, &task) => end,
            };
            task.close(&end);
        });
        Ok(Self { frames, shared })
    }

    fn is_open(&self) -> bool {
        self.shared.table().closed.is_none() && !self.frames.is_closed()
    }

    async fn ask(&self, query: &mut [u8]) -> Result<Vec<u8>, ExchangeError> {
        let (waiter, reply) = oneshot::channel();
        let id = {
            let mut table = self.shared.table();
            if let Some(error) = &table.closed {
                return Err(error.clone());
            }
            let id = table.in_flight.insert(query, false, waiter, rand::random);
            id.ok_or(ExchangeError::Busy {
                remote: self.shared.remote,
            })?
        };
        let mut place = Place {
            shared: &self.shared,
            id,
            reply,
        };
        // A message is no longer than the packet it came in.
        let mut frame = Vec::with_capacity(query.len() + 2);
        frame.extend_from_slice(&(query.len() as u16).to_be_bytes());
        frame.extend_from_slice(query);
        let gone = || self.shared.error(Operation::Read, Cause::Eof);
        if self.frames.send(frame).await.is_err() {
            // Without a reason the task has gone with its runtime.
            return Err(self.shared.table().closed.clone().unwrap_or_else(gone));
        }
        (&mut place.reply).await.unwrap_or_else(|_| Err(gone()))
    }
}

/// A query's entry in the table; gone with the query.
struct Place<'a> {
    shared: &'a Shared,
    id: u16,
    reply: oneshot::Receiver<Result<Vec<u8>, ExchangeError>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        // Replies are given with the table locked: as long as there is none, the id is this one's.
        if self.reply.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            table.in_flight.remove(self.id);
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all that wait, and all that come.
    fn close(&self, error: &ExchangeError) {
        let mut table = self.table();
        table.closed = Some(error.clone());
        for waiter in table.in_flight.drain() {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    const fn error(&self, operation: Operation, cause: Cause) -> ExchangeError {
        ExchangeError::Io {
            operation,
            protocol: Protocol::Tls,
            local: Some(self.local),
            remote: self.remote,
            cause,
        }
    }

    fn io_error(&self, operation: Operation, error: &io::Error) -> ExchangeError {
        super::encryption::tls_error(self.remote, error)
            .unwrap_or_else(|| self.error(operation, error.into()))
    }
}

/// Gives replies to whom they are for, until the connection ends.
async fn read(mut stream: impl AsyncRead + Unpin, shared: &Shared) -> ExchangeError {
    loop {
        let message = match read_frame(&mut stream).await {
            Ok(message) => message,
            Err(error) => return shared.io_error(Operation::Read, &error),
        };
        let mut table = shared.table();
        let _ = match table.in_flight.arrive(&message) {
            Arrival::Reply(waiter) | Arrival::OtherCase(waiter) => waiter.send(Ok(message)),
            Arrival::BareError(waiter, message) => waiter.send(Ok(message)),
            // Nobody but the upstream can have sent it: there will be no other reply.
            Arrival::OtherQuestion => {
                let id = Header::read(&message).unwrap_or_default().id;
                let error = ExchangeError::OtherQuestion {
                    remote: shared.remote,
                };
                let waiter = table.in_flight.remove(id);
                waiter.map_or(Ok(()), |waiter| waiter.send(Err(error)))
            }
            Arrival::Late | Arrival::Stray => Ok(()),
        };
    }
}

/// Sends what comes, until nothing can come any more.
async fn write(
    mut stream: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Vec<u8>>,
    shared: &Shared,
) -> ExchangeError {
    while let Some(mut burst) = frames.recv().await {
        while burst.len() < BURST
            && let Ok(frame) = frames.try_recv()
        {
            burst.extend(frame);
        }
        let sent = async {
            stream.write_all(&burst).await?;
            stream.flush().await
        };
        if let Err(error) = sent.await {
            return shared.io_error(Operation::Write, &error);
        }
    }
    let _ = timeout(GOODBYE, stream.shutdown()).await;
    shared.error(Operation::Write, Cause::Eof)
}

/// Reads a message with its length (RFC 1035 §4.2.2).
async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let len = stream.read_u16().await?;
    let mut message = vec![0; usize::from(len)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
