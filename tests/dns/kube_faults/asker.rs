//! A client that never stops asking.

use super::world::{Ledger, Question};
use crate::support::message;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::serialize::binary::BinDecodable;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The client. It ends when this is dropped.
pub struct Asker {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    answered: usize,
    wrong: Vec<String>,
}

impl Asker {
    /// Asks `server` everything that the ledger knows, again and again.
    pub async fn start(server: SocketAddr, ledger: Arc<Ledger>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server).await.unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let to = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut id = 0_u16;
            loop {
                for (question, _) in ledger.questions() {
                    id = id.wrapping_add(1);
                    let floor = ledger.floor(&question);
                    let judged = match ask(&socket, id, &question).await {
                        Ok(answer) => ledger.judge(&question, floor, &answer),
                        Err(error) => Err(format!("{question:?}: {error}")),
                    };
                    let mut state = to.lock().unwrap();
                    state.answered += 1;
                    state.wrong.extend(judged.err());
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Self { state, task }
    }

    /// How many answers there were so far.
    pub fn answered(&self) -> usize {
        self.state.lock().unwrap().answered
    }

    /// What was wrong so far.
    pub fn verdict(&self) -> Result<(), String> {
        let state = self.state.lock().unwrap();
        match state.wrong.as_slice() {
            [] => Ok(()),
            [first, ..] => Err(format!(
                "{} of {} answers were wrong, the first: {first}",
                state.wrong.len(),
                state.answered
            )),
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer's rdata, sorted; none for NXDOMAIN.
async fn ask(socket: &UdpSocket, id: u16, question: &Question) -> Result<Vec<String>, String> {
    let (name, qtype) = question;
    let packet = message::query(id, name, *qtype);
    socket.send(&packet).await.map_err(|e| e.to_string())?;
    let mut buffer = [0; 4096];
    // A datagram on loopback is not lost; the wait is for a machine that is busy.
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    let length = received
        .map_err(|_| "no reply")?
        .map_err(|e| e.to_string())?;
    let reply = Message::from_bytes(&buffer[..length]).map_err(|e| e.to_string())?;
    if reply.metadata.id != id {
        return Err("the reply to another query".into());
    }
    let of_type = |rtype: u16| rtype == qtype.0;
    let records = reply.answers.iter();
    let mut rdata: Vec<_> = records
        .filter(|record| of_type(record.record_type().into()))
        .map(|record| record.data.to_string())
        .collect();
    rdata.sort();
    match (reply.metadata.response_code, rdata.is_empty()) {
        (ResponseCode::NoError, false) => Ok(rdata),
        (ResponseCode::NXDomain, true) => match reply.authorities.first() {
            Some(soa) if soa.record_type() == hickory_proto::rr::RecordType::SOA => Ok(rdata),
            _ => Err("NXDOMAIN without SOA".into()),
        },
        (code, _) => Err(format!("{code:?} with {rdata:?}")),
    }
}
