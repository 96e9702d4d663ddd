//! The table of faults.

use super::lab::Variant;
use super::script::Act::*;
use super::script::{Act, Scenario};
use crate::support::kube::fault::{At, Fault, Strike};
use futures_util::StreamExt;
use std::time::Duration;

/// The server goes away, things change, the version that everybody knows is forgotten: when it is
/// back, everybody has to list again. `strikes` lie in wait for that.
fn relist(strikes: Vec<Strike>) -> [Act; 7] {
    [
        Settle,
        Down,
        Changes(20),
        Compact,
        Strikes(strikes),
        Up,
        Changes(5),
    ]
}

fn all() -> Vec<Scenario> {
    let ms = Duration::from_millis;
    let once = Strike::once;
    let lists = |fault| vec![once(At::StreamList, fault), once(At::List, fault)];
    let first = |fault, times| [once(At::Any, fault).times(times)];
    vec![
        Scenario::new("nothing", [Changes(30), Bookmarks, Changes(30)]),
        Scenario::new(
            "streams cut in the middle of an event",
            [
                Changes(5),
                Cut,
                Changes(5),
                Cut,
                Settle,
                Cut,
                Changes(5),
                Bookmarks,
                Cut,
                Changes(5),
            ],
        ),
        Scenario::new(
            "streaming list cut twice",
            relist(lists(Fault::Cut { after: 3 })),
        )
        .at_start([once(At::StreamList, Fault::Cut { after: 3 }).times(2)]),
        Scenario::new("page cut", relist(lists(Fault::Cut { after: 0 })))
            .paged()
            .at_start([once(At::List, Fault::Cut { after: 0 }).times(2)]),
        Scenario::new(
            "second page cut",
            relist(vec![once(At::NextPage, Fault::Cut { after: 0 })]),
        )
        .paged(),
        Scenario::new(
            "streams that end at once",
            [Cut, Changes(20), Settle, Changes(20)],
        )
        .at_start([
            once(At::Watch, Fault::Close { after: 0 }).times(5),
            once(At::Watch, Fault::Close { after: 1 }).times(9),
            once(At::StreamList, Fault::Close { after: 2 }),
        ]),
        Scenario::new(
            "410 of a watch",
            [
                Strikes(vec![once(At::Watch, Fault::Status(410, None))]),
                Changes(9),
                Cut,
                Changes(9),
            ],
        ),
        Scenario::new(
            "410 in a watch",
            [
                Strikes(vec![once(
                    At::Watch,
                    Fault::Error {
                        after: 2,
                        code: 410,
                    },
                )]),
                Cut,
                Changes(30),
            ],
        ),
        Scenario::new("410 of a list", relist(lists(Fault::Status(410, None))))
            .at_start(first(Fault::Status(410, None), 2)),
        Scenario::new(
            "410 of a list in pages",
            relist(lists(Fault::Status(410, None))),
        )
        .paged(),
        Scenario::new(
            "410 in a streaming list",
            relist(lists(Fault::Error {
                after: 2,
                code: 410,
            })),
        )
        .at_start([once(
            At::StreamList,
            Fault::Error {
                after: 3,
                code: 410,
            },
        )]),
        Scenario::new(
            "tokens expire between pages",
            relist(vec![once(At::NextPage, Fault::Status(410, None)).times(2)]),
        )
        .paged()
        .at_start([once(At::NextPage, Fault::Status(410, None)).times(2)]),
        Scenario::new(
            "429 with Retry-After",
            relist(first(Fault::Status(429, Some(1)), 1).into()),
        )
        .at_start(first(Fault::Status(429, Some(0)), 3)),
        Scenario::new(
            "500 for every request",
            relist(first(Fault::Status(500, None), 6).into()),
        )
        .at_start(first(Fault::Status(500, None), 2)),
        Scenario::new(
            "500 for every page",
            relist(first(Fault::Status(500, None), 6).into()),
        )
        .paged(),
        Scenario::new(
            "503 while it changes",
            [
                All(Some(503)),
                Cut,
                Changes(10),
                Asked(8),
                Changes(10),
                All(None),
            ],
        ),
        Scenario::new(
            "403 and 401 while it changes",
            [
                All(Some(403)),
                Cut,
                Changes(10),
                Asked(20),
                All(Some(401)),
                Changes(10),
                Asked(20),
                All(None),
            ],
        ),
        Scenario::new(
            "500 in a stream",
            relist(vec![
                once(
                    At::StreamList,
                    Fault::Error {
                        after: 4,
                        code: 500,
                    },
                ),
                once(
                    At::Watch,
                    Fault::Error {
                        after: 1,
                        code: 500,
                    },
                )
                .times(5),
            ]),
        )
        .without_oracle("it takes an error within a list for a reason to wait for more"),
        Scenario::new(
            "slow lists",
            relist(vec![
                once(At::StreamList, Fault::Slow(ms(15))),
                once(At::List, Fault::Late(ms(300))),
            ]),
        )
        .at_start([once(At::StreamList, Fault::Late(ms(300)))]),
        Scenario::new(
            "slow pages",
            relist(vec![
                once(At::List, Fault::Late(ms(200))),
                once(At::NextPage, Fault::Late(ms(200))).times(2),
            ]),
        )
        .paged(),
        Scenario::new(
            "lists that never begin",
            relist(lists(Fault::Late(Duration::from_secs(60)))),
        ),
        Scenario::new(
            "streaming lists that fall silent",
            relist(lists(Fault::Mute { after: 4 })),
        )
        .watchful(),
        Scenario::new(
            "watches that fall silent",
            [
                Strikes(vec![once(At::Watch, Fault::Mute { after: 1 })]),
                Cut,
                Changes(30),
            ],
        )
        .watchful(),
        Scenario::new(
            "every event twice",
            [
                Strikes(vec![once(At::Watch, Fault::Twice).times(9)]),
                Cut,
                Changes(30),
                Settle,
                Changes(30),
            ],
        ),
        Scenario::new(
            "events in the reverse order",
            [
                Strikes(vec![once(At::Watch, Fault::Reversed)]),
                All(Some(503)),
                Cut,
                Changes(40),
                Burst(5),
                All(None),
                Settle,
                Changes(20),
            ],
        )
        .without_oracle("it takes each event for newer than the one before"),
        Scenario::new(
            "old events again",
            [
                Strikes(vec![once(At::Watch, Fault::Stale)]),
                Cut,
                Burst(5),
                Changes(40),
                Settle,
                Changes(20),
            ],
        )
        .without_oracle("it takes each event for newer than the one before"),
        Scenario::new(
            "events of no sense",
            [
                Changes(9),
                Nonsense,
                Changes(9),
                Strikes(vec![once(At::Watch, Fault::Garbage { after: 1 })]),
                Cut,
                Changes(30),
            ],
        ),
        Scenario::new(
            "objects with missing and absurd fields",
            [
                vec![Changes(5), Odd, Changes(5), Settle],
                relist(lists(Fault::Cut { after: 9 })).into(),
            ]
            .concat(),
        ),
        Scenario::new(
            "objects with missing and absurd fields in pages",
            [
                vec![Changes(5), Odd, Changes(5), Settle],
                relist(lists(Fault::Cut { after: 9 })).into(),
            ]
            .concat(),
        )
        .paged(),
        Scenario::new(
            "restart, versions go on",
            [
                Changes(9),
                Settle,
                Down,
                Changes(9),
                Pause(ms(100)),
                Up,
                Changes(9),
            ],
        ),
        Scenario::new(
            "restart, history lost",
            [
                Changes(9),
                Settle,
                Down,
                Changes(9),
                LoseHistory,
                Up,
                Changes(9),
            ],
        ),
        Scenario::new(
            "restart, history lost, pages",
            [
                Changes(9),
                Settle,
                Down,
                Changes(9),
                LoseHistory,
                Up,
                Changes(9),
            ],
        )
        .paged(),
        Scenario::new(
            "restart, other storage with lower versions",
            [
                Changes(90),
                Settle,
                Down,
                ReplaceStorage,
                Changes(9),
                Up,
                Settle,
                Changes(9),
            ],
        )
        .watchful()
        .without_oracle("it waits for versions beyond the highest that it knows"),
        Scenario::new(
            "half-open connections",
            [
                Changes(5),
                Settle,
                Freeze,
                Changes(9),
                Pause(ms(300)),
                Thaw,
                Changes(9),
            ],
        )
        .watchful(),
        Scenario::new(
            "half-open connections, history lost meanwhile",
            [
                Changes(5),
                Settle,
                Freeze,
                Changes(9),
                Compact,
                Pause(ms(300)),
                Thaw,
            ],
        )
        .watchful(),
        Scenario::new("pages of HTML", relist(first(Fault::Html, 3).into()))
            .at_start(first(Fault::Html, 1)),
    ]
}

/// What needs the source to read its credentials again.
fn rotations() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "token rotation",
            [
                Changes(5),
                Settle,
                Token("second"),
                Changes(5),
                Cut,
                Changes(5),
                Settle,
                Token("third"),
                Cut,
                Changes(5),
            ],
        ),
        Scenario::new(
            "another authority",
            [
                Changes(5),
                Settle,
                Down,
                Authority,
                Changes(5),
                Up,
                Changes(5),
            ],
        )
        .only_tls(),
    ]
}

async fn run(variant: Variant, all: Vec<Scenario>) {
    let all = all.into_iter();
    let chosen = std::env::var("SCENARIO").unwrap_or_default();
    let runs = all
        .filter(|scenario| (variant.tls || !scenario.only_tls) && scenario.name.contains(&chosen))
        .map(|scenario| async move {
            let name = scenario.name;
            let begun = tokio::time::Instant::now();
            let done = tokio::spawn(scenario.run(variant)).await;
            println!("{:>6} ms  {name}", begun.elapsed().as_millis());
            match done {
                Ok(Ok(())) => None,
                Ok(Err(text)) => Some(format!("{name}: {text}")),
                Err(panic) => Some(format!("{name}: {panic}")),
            }
        });
    let runs = futures_util::stream::iter(runs).buffer_unordered(6);
    let failures: Vec<_> = runs.filter_map(async |failure| failure).collect().await;
    assert!(failures.is_empty(), "{variant:?}\n{}", failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_over_http() {
    run(Variant::default(), all()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protobuf_over_http() {
    let variant = Variant {
        protobuf: true,
        ..Variant::default()
    };
    run(variant, all()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_over_tls() {
    let variant = Variant {
        tls: true,
        ..Variant::default()
    };
    run(variant, all()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protobuf_over_tls() {
    let variant = Variant {
        protobuf: true,
        tls: true,
        ..Variant::default()
    };
    run(variant, all()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_of_credentials() {
    for tls in [false, true] {
        let variant = Variant {
            tls,
            ..Variant::default()
        };
        run(variant, rotations()).await;
    }
}
