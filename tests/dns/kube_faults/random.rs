//! Random histories with random faults between: the index is always what the server has.

use super::lab::{Lab, Variant};
use super::script::Act;
use super::world::Change;
use crate::support::kube::fault::{At, Fault, Strike};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use std::time::{Duration, Instant};

/// No case begins later than this: a slow machine tries fewer, none takes longer.
const BUDGET: Duration = Duration::from_secs(12);

#[derive(Clone, Debug)]
enum Step {
    Change(u16),
    Act(Act),
    /// The server is away while the versions that everybody knows are forgotten.
    Relist,
}

fn fault(with_oracle: bool) -> impl Strategy<Value = Fault> {
    let after = 0..6_usize;
    let common = prop_oneof![
        after.clone().prop_map(|after| Fault::Cut { after }),
        after.clone().prop_map(|after| Fault::Close { after }),
        after.clone().prop_map(|after| Fault::Garbage { after }),
        after
            .clone()
            .prop_map(|after| Fault::Error { after, code: 410 }),
        prop::sample::select(vec![410, 500, 503, 504]).prop_map(|code| Fault::Status(code, None)),
        Just(Fault::Twice),
        Just(Fault::Html),
        (0..20_u64).prop_map(|ms| Fault::Late(Duration::from_millis(ms))),
    ];
    // What leads kube's watcher astray.
    let special = prop_oneof![
        Just(Fault::Reversed),
        Just(Fault::Stale),
        after.prop_map(|after| Fault::Error { after, code: 500 }),
    ];
    let weight = if with_oracle { 0 } else { 4 };
    prop_oneof![6 => common, weight => special]
}

fn strike(with_oracle: bool) -> impl Strategy<Value = Strike> {
    let at = vec![At::Any, At::List, At::NextPage, At::StreamList, At::Watch];
    (prop::sample::select(at), fault(with_oracle), 1..4_usize)
        .prop_map(|(at, fault, times)| Strike::once(at, fault).times(times))
}

fn step(with_oracle: bool) -> impl Strategy<Value = Step> {
    let strikes = prop::collection::vec(strike(with_oracle), 1..4);
    prop_oneof![
        12 => any::<u16>().prop_map(Step::Change),
        2 => strikes.prop_map(|strikes| Step::Act(Act::Strikes(strikes))),
        2 => Just(Step::Act(Act::Cut)),
        1 => Just(Step::Relist),
        1 => Just(Step::Act(Act::Bookmarks)),
        1 => Just(Step::Act(Act::Settle)),
        1 => (0..30_u64).prop_map(|ms| Step::Act(Act::Pause(Duration::from_millis(ms)))),
    ]
}

async fn run(steps: Vec<Step>, variant: Variant, with_oracle: bool) -> Result<(), String> {
    let mut lab = Lab::start(variant, with_oracle, |_| ()).await?;
    for step in steps {
        match step {
            Step::Change(number) => lab.world.change(Change::numbered(number)),
            Step::Act(act) => act.perform(&mut lab).await?,
            Step::Relist => {
                for act in [Act::Down, Act::Changes(3), Act::Compact, Act::Up] {
                    act.perform(&mut lab).await?;
                }
            }
        }
    }
    lab.settle().await
}

fn check(with_oracle: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let begun = Instant::now();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 40,
        // A case that fails waits long to find that out.
        max_shrink_iters: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let histories = (
        prop::collection::vec(step(with_oracle), 1..60),
        any::<[bool; 3]>(),
    );
    let tried = runner.run(&histories, |(steps, [protobuf, tls, paged])| {
        let variant = Variant {
            protobuf,
            tls,
            paged,
            watchful: false,
        };
        if begun.elapsed() > BUDGET {
            return Ok(());
        }
        let done = runtime.block_on(run(steps, variant, with_oracle));
        done.map_err(TestCaseError::fail)
    });
    tried.unwrap();
}

#[test]
fn any_history_ends_as_the_server_and_the_oracle_have_it() {
    check(true);
}

#[test]
fn any_history_with_disorder_ends_as_the_server_has_it() {
    check(false);
}
