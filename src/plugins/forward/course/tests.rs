//! Courses in milliseconds, with upstreams that do what a table says.

use super::super::policy::Policy;
use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What an upstream does about a query.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    /// Nothing.
    Silent,
    /// Answers after so many ms.
    Answers(u64),
    /// Answers after so many ms with what is no use.
    Refuses(u64),
    /// Answers another question after so many ms.
    Errs(u64),
    /// Fails after so many ms.
    Breaks(u64),
}

use Does::*;

const DEFAULT: Rules = Rules {
    overlap: true,
    read_timeout: ms(2000),
    max_attempts: 4,
    fail_fast: false,
};
const FW_5: Rules = Rules {
    overlap: false,
    ..DEFAULT
};

/// Plays a query; gives when it ended (in ms), whether it was answered, and when which upstream
/// was asked.
fn play(rules: Rules, upstreams: &[(Standing, Does)]) -> (u64, bool, Vec<(u64, usize)>) {
    let start = Instant::now();
    let order = Policy::Sequential.order(upstreams.len());
    let mut course = Course::new(rules, &order, start);
    let view = |index: usize| View {
        standing: upstreams[index].0,
        wait: ms(match upstreams[index].0 {
            Standing::Silent => 100,
            _ => 400,
        }),
    };
    let (mut now, mut asked) = (0, Vec::new());
    // When, who, what.
    let mut events: Vec<(u64, usize, Does)> = Vec::new();
    loop {
        let until = match course.next(start + ms(now), view) {
            Next::End => return (now, false, asked),
            Next::Ask(index, time) => {
                asked.push((now, index));
                let timeout = now + time.as_millis() as u64;
                let does = upstreams[index].1;
                let at = match does {
                    Silent => timeout,
                    Answers(after) | Refuses(after) | Errs(after) | Breaks(after) => now + after,
                };
                let does = if at >= timeout { Silent } else { does };
                events.push((at.min(timeout), index, does));
                continue;
            }
            Next::Wait(until) => until.map(|at| (at - start).as_millis() as u64),
        };
        events.sort_by_key(|&(at, ..)| std::cmp::Reverse(at));
        match events.last() {
            Some(&(at, index, does)) if until.is_none_or(|until| at <= until) => {
                events.pop();
                now = at;
                match does {
                    Answers(_) => return (now, true, asked),
                    Refuses(_) => course.refused(index, start + ms(now)),
                    Errs(_) => course.mistaken(index, start + ms(now)),
                    Silent | Breaks(_) => course.failed(index, start + ms(now)),
                }
            }
            _ => now = until.unwrap(),
        }
    }
}

use Standing::{Doubtful, Down, Good, Silent as Quiet};

#[test]
fn attempts_overlap_where_several_upstreams_are() {
    for (upstreams, ended, answered, asked) in [
        (
            &[(Good, Answers(5)), (Good, Answers(5))][..],
            5,
            true,
            &[(0, 0)][..],
        ),
        // A slow one is not given up.
        (
            &[(Good, Answers(390)), (Good, Silent)],
            390,
            true,
            &[(0, 0)],
        ),
        (
            &[(Good, Answers(500)), (Good, Silent)],
            500,
            true,
            &[(0, 0), (400, 1)],
        ),
        (
            &[(Good, Silent), (Good, Answers(5))],
            405,
            true,
            &[(0, 0), (400, 1)],
        ),
        // One that is known to be silent is not asked first, and not waited for.
        (&[(Quiet, Silent), (Good, Answers(5))], 5, true, &[(0, 1)]),
        (
            &[(Quiet, Silent), (Quiet, Answers(5))],
            105,
            true,
            &[(0, 0), (100, 1)],
        ),
        (
            &[(Down, Silent), (Quiet, Silent), (Good, Silent)],
            1900,
            false,
            &[(0, 2), (400, 1), (1200, 2)],
        ),
        // What is broken at once is passed at once, in two rounds.
        (
            &[(Good, Breaks(1)), (Good, Breaks(1))],
            4,
            false,
            &[(0, 0), (1, 1), (2, 0), (3, 1)],
        ),
        (
            &[(Good, Silent), (Good, Silent)],
            1900,
            false,
            &[(0, 0), (400, 1), (1200, 0)],
        ),
        (
            &[(Down, Silent), (Down, Answers(5))],
            405,
            true,
            &[(0, 0), (400, 1)],
        ),
    ] {
        let played = play(DEFAULT, upstreams);
        assert_eq!(played, (ended, answered, asked.to_vec()));
    }
}

#[test]
fn what_is_no_use_is_asked_of_all_others_once() {
    for (upstreams, ended, answered, asked) in [
        (
            &[(Good, Refuses(3)), (Good, Answers(5))][..],
            8,
            true,
            &[(0, 0), (3, 1)][..],
        ),
        (
            &[(Good, Refuses(3)), (Good, Refuses(5))],
            8,
            false,
            &[(0, 0), (3, 1)],
        ),
        (
            &[(Good, Refuses(3)), (Doubtful, Answers(5))],
            8,
            true,
            &[(0, 0), (3, 1)],
        ),
        // It is not worth the wait.
        (&[(Good, Refuses(3)), (Quiet, Silent)], 3, false, &[(0, 0)]),
        (&[(Good, Refuses(3)), (Down, Silent)], 3, false, &[(0, 0)]),
        (
            &[(Good, Refuses(3)), (Good, Silent)],
            1900,
            false,
            &[(0, 0), (3, 1)],
        ),
        (
            &[(Good, Errs(3)), (Good, Answers(5))],
            8,
            true,
            &[(0, 0), (3, 1)],
        ),
        (
            &[(Good, Errs(3)), (Good, Errs(3))],
            6,
            false,
            &[(0, 0), (3, 1)],
        ),
        (&[(Good, Refuses(3))], 3, false, &[(0, 0)]),
    ] {
        for rules in [DEFAULT, FW_5] {
            let played = play(rules, upstreams);
            let ended = match (ended, rules.overlap) {
                (1900, false) => 2003,
                _ => ended,
            };
            assert_eq!(played, (ended, answered, asked.to_vec()));
        }
    }
}

#[test]
fn with_the_options_of_time_one_attempt_follows_the_other() {
    let with = |max_attempts| Rules {
        max_attempts,
        ..FW_5
    };
    for (rules, upstreams, ended, asked) in [
        (
            with(2),
            &[(Good, Silent)][..],
            4000,
            &[(0, 0), (2000, 0)][..],
        ),
        (
            with(4),
            &[(Good, Silent); 2],
            6000,
            &[(0, 0), (2000, 1), (4000, 0)],
        ),
        (
            with(6),
            &[(Good, Silent); 3],
            6000,
            &[(0, 0), (2000, 1), (4000, 2)],
        ),
        (
            with(4),
            &[(Good, Silent), (Down, Silent)],
            6000,
            &[(0, 0), (2000, 0), (4000, 0)],
        ),
        (with(1), &[(Quiet, Silent), (Good, Silent)], 2000, &[(0, 1)]),
        (with(2), &[(Down, Silent)], 2000, &[(0, 0)]),
    ] {
        assert_eq!(play(rules, upstreams), (ended, false, asked.to_vec()));
    }
    let (ended, _, asked) = play(with(0), &[(Good, Breaks(0))]);
    assert_eq!((ended, asked.len()), (5000, 100), "a pause between rounds");
    let fast = Rules {
        fail_fast: true,
        ..DEFAULT
    };
    for rules in [
        fast,
        Rules {
            overlap: false,
            ..fast
        },
    ] {
        let played = play(rules, &[(Down, Answers(1)), (Down, Answers(1))]);
        assert_eq!(played, (0, false, vec![]));
    }
}
