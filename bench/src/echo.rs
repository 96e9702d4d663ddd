//! The floor: a server that turns every packet round, with the same system calls as Portolan.

use portolan::net::{Batch, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

/// Serves 127.0.0.1 at this port until the process is ended.
pub fn serve(port: Option<&str>) -> ExitCode {
    let Some(Ok(port)) = port.map(str::parse::<u16>) else {
        return ExitCode::FAILURE;
    };
    let Ok(socket) = UdpSocket::bind(([127, 0, 0, 1], port).into(), Duration::from_secs(60)) else {
        return ExitCode::FAILURE;
    };
    let mut batch = Batch::new(32);
    let mut reply = Vec::with_capacity(4096);
    loop {
        let Ok(count) = batch.receive(&socket) else {
            continue;
        };
        for slot in 0..count {
            let Some(peer) = batch.peer(slot) else {
                continue;
            };
            reply.clear();
            reply.extend_from_slice(batch.packet(slot));
            if let Some(flags) = reply.get_mut(2) {
                *flags |= 0x80;
            }
            let _ = batch.reply(&socket, &peer, &reply);
        }
        let _ = batch.flush(&socket);
    }
}
