//! What is believed of what comes in: letter case, guesses, and records that nobody asked for.

use super::{ONE, example, expected, good};
use crate::support::block::{TestBlock, block};
use crate::support::message::{a, query, question, reply};
use crate::support::upstream::{Act, Seen, Upstream};
use portolan::dns::{Rcode, RecordType};
use portolan::plugin::Transport;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

const FORGED: [u8; 4] = [203, 0, 113, 66];

fn count(block: &TestBlock, name: &str, to: SocketAddr) -> f64 {
    block.metric(&format!(
        "portolan_upstream_{name}_total{{proxy_name=\"forward\",to=\"{to}\"}}"
    ))
}

/// The message with the letters of its question in lower case.
fn lower(mut message: Vec<u8>) -> Vec<u8> {
    let end = 12 + question(&message).len() - 4;
    message[12..end].make_ascii_lowercase();
    message
}

/// The message with the first letter of its question in the other case.
fn other_case(mut message: Vec<u8>) -> Vec<u8> {
    message[13] ^= 0x20;
    message
}

fn answer(seen: &Seen) -> Vec<u8> {
    reply(&seen.packet, 0, &[&a(300, ONE)])
}

fn forged(seen: &Seen) -> Vec<u8> {
    reply(&seen.packet, 0, &[&a(300, FORGED)])
}

#[tokio::test]
async fn names_go_out_in_random_case_and_come_back_as_asked() {
    let upstream = Upstream::answering(|seen| {
        // An upstream that spells the owner out as it was asked.
        let name = &question(&seen.packet)[..17];
        let record = [name, &a(300, ONE)[2..]].concat();
        reply(&seen.packet, 0, &[&record])
    })
    .await;
    let forward = format!("forward . {}", upstream.addr);
    let random = block(&forward);
    let record = [&question(&example())[..17], &a(300, ONE)[2..]].concat();
    for transport in [Transport::Udp, Transport::Tcp] {
        for _ in 0..32 {
            let answer = random.ask(example(), transport).await;
            assert_eq!(answer.message, expected(&example(), 0, &[&record]));
        }
    }
    let spellings = |proto: &str| -> BTreeSet<Vec<u8>> {
        let seen = upstream.seen().into_iter();
        let seen = seen.filter(|seen| seen.proto == proto);
        seen.map(|seen| question(&seen.packet).to_vec()).collect()
    };
    assert!(spellings("udp").len() > 24, "13 letters");
    assert_eq!(spellings("tcp").len(), 1, "the connection is proof enough");
    drop(random);

    let plain = block(&format!("{forward} {{\n keep_case\n}}"));
    let before = upstream.seen().len();
    for _ in 0..8 {
        plain.udp(example()).await;
    }
    for seen in &upstream.seen()[before..] {
        assert_eq!(seen.packet[2..], example()[2..]);
    }
}

#[tokio::test]
async fn an_upstream_that_loses_case_is_asked_without_after_three_replies() {
    let upstream = Upstream::answering(|seen| other_case(answer(seen))).await;
    let block = block(&format!("forward . {}", upstream.addr));
    for _ in 0..6 {
        let answer = block.udp(example()).await;
        assert_eq!(answer.message, expected(&example(), 0, &[&a(300, ONE)]));
    }
    assert_eq!(count(&block, "case_ignored", upstream.addr), 3.0);
    let seen = upstream.seen();
    let protos: Vec<_> = seen.iter().map(|seen| seen.proto).collect();
    let doubtful = ["udp", "tcp", "udp", "tcp", "udp", "tcp"];
    assert_eq!(protos, [&doubtful[..], &["udp", "udp", "udp"]].concat());
    for seen in &seen[6..] {
        assert_eq!(seen.packet[2..], example()[2..]);
    }
}

#[tokio::test]
async fn a_reply_in_another_case_is_not_believed() {
    let upstream = Upstream::new(|seen| match seen.proto {
        "udp" => vec![Act::Send(other_case(forged(seen))), Act::Send(answer(seen))],
        _ => vec![Act::Send(answer(seen))],
    })
    .await;
    let block = block(&format!("forward . {}", upstream.addr));
    let answer = block.udp(example()).await;
    assert_eq!(answer.message, expected(&example(), 0, &[&a(300, ONE)]));
}

#[tokio::test]
async fn an_upstream_without_tcp_that_loses_case_is_asked_again_over_udp() {
    let upstream = Upstream::new(|seen| match seen.proto {
        "udp" => vec![Act::Send(other_case(answer(seen)))],
        _ => vec![Act::Close],
    })
    .await;
    let block = block(&format!("forward . {}", upstream.addr));
    let answer = block.udp(example()).await;
    assert_eq!(answer.message, expected(&example(), 0, &[&a(300, ONE)]));
    let seen = upstream.seen();
    let ports: BTreeSet<_> = seen
        .iter()
        .filter(|s| s.proto == "udp")
        .map(|s| s.from.port())
        .collect();
    assert_eq!(ports.len(), 2, "from another port");
}

#[tokio::test(start_paused = true)]
async fn another_question_over_udp_does_not_end_the_wait() {
    let upstream = Upstream::new(|seen| {
        let mut other = forged(seen);
        other[14] = b'x';
        vec![
            Act::Send(other),
            Act::Wait(Duration::from_millis(50)),
            Act::Send(answer(seen)),
        ]
    })
    .await;
    let block = block(&format!("forward . {}", upstream.addr));
    let answer = block.udp(example()).await;
    assert_eq!(answer.message, expected(&example(), 0, &[&a(300, ONE)]));
    assert_eq!(count(&block, "mismatched", upstream.addr), 1.0);
}

/// 65,536 guesses, one with the right id, before the true reply.
#[tokio::test]
async fn of_all_guesses_none_is_believed() {
    for guess in [
        // The id is right in one of them, the case in none.
        (|seen: &Seen| lower(forged(seen))) as fn(&Seen) -> Vec<u8>,
        |seen| other_case(forged(seen)),
        // The case is right, the question is another one.
        |seen| {
            let mut other = forged(seen);
            other[14] = b'x';
            other
        },
        |seen| {
            let mut query = forged(seen);
            query[2] &= 0x7f;
            query
        },
    ] {
        let upstream = Upstream::new(move |seen| {
            let mut acts = Vec::new();
            if seen.proto == "udp" {
                for id in 0..=u16::MAX {
                    let mut guess = guess(seen);
                    guess[..2].copy_from_slice(&id.to_be_bytes());
                    acts.push(Act::Send(guess));
                }
            }
            acts.push(Act::Send(answer(seen)));
            acts
        })
        .await;
        let block = block(&format!("forward . {}", upstream.addr));
        let answer = block
            .udp(query(
                1,
                "a-rather-long-name-with-letters.example.org",
                RecordType::A,
            ))
            .await;
        assert!(answer.message.ends_with(&ONE), "{answer:?}");
        assert!(count(&block, "mismatched", upstream.addr) >= 32.0);
        let tcp = upstream
            .seen()
            .iter()
            .filter(|seen| seen.proto == "tcp")
            .count();
        assert_eq!(tcp, 1, "asked again where nobody can guess");
    }
}

#[tokio::test]
async fn late_and_doubled_replies_are_no_guesses() {
    let upstream = Upstream::new(|seen| vec![Act::Send(answer(seen)); 3]).await;
    let block = block(&format!("forward . {}", upstream.addr));
    for _ in 0..64 {
        block.udp(example()).await;
    }
    assert_eq!(count(&block, "mismatched", upstream.addr), 0.0);
    assert!(upstream.seen().iter().all(|seen| seen.proto == "udp"));
}

#[tokio::test]
async fn records_that_were_not_asked_for_reach_nobody() {
    let upstream = Upstream::answering(|seen| {
        // Kaminsky's: an address for another name besides the answer.
        let other = [b"\x03www\x04bank\x04test\0", &a(300, FORGED)[2..]].concat();
        reply(&seen.packet, 0, &[&other, &a(300, ONE)])
    })
    .await;
    let block = block(&format!("forward . {}", upstream.addr));
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = block.ask(example(), transport).await;
        assert_eq!(answer.message, expected(&example(), 0, &[&a(300, ONE)]));
    }
    assert_eq!(count(&block, "records_removed", upstream.addr), 2.0);
}

#[tokio::test]
async fn an_honest_upstream_is_not_suspected() {
    let upstream = good().await;
    let block = block(&format!("forward . {}", upstream.addr));
    for _ in 0..64 {
        assert_eq!(block.udp(example()).await.rcode(), Rcode::NOERROR);
    }
    for name in ["case_ignored", "mismatched", "records_removed"] {
        assert_eq!(count(&block, name, upstream.addr), 0.0, "{name}");
    }
}
