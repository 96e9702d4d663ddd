//! Arguments, options and their errors.

use super::super::config::{Settings, Stale};
use super::*;

fn read(text: &str) -> Result<Settings, String> {
    let zones = [Zone::root()];
    Settings::read(&directive(text), &zones).map_err(|error| error.to_string())
}

#[test]
fn defaults() {
    let settings = read("cache").unwrap();
    assert_eq!(settings.zones_label(), ".");
    assert_eq!(
        (settings.success.capacity, settings.denial.capacity),
        (10_000, 10_000)
    );
    assert_eq!(
        (settings.success.max_ttl, settings.denial.max_ttl),
        (3600, 1800)
    );
    assert_eq!((settings.success.min_ttl, settings.denial.min_ttl), (5, 5));
    assert_eq!((settings.servfail, settings.prefetch.amount), (5, 0));
    assert_eq!(settings.stale, Stale::default());
    assert!(!settings.keep_ttl);
    assert_eq!(settings.budgets(), [5_120_000, 5_120_000]);
}

/// `memory`: octets of both stores, shared like the entries.
#[test]
fn budgets() {
    for (text, budgets) in [
        ("cache\nmemory 64Mi", [32 << 20, 32 << 20]),
        ("cache\nmemory 2000000", [1_000_000, 1_000_000]),
        ("cache\nmemory 2MB", [1_000_000, 1_000_000]),
        ("cache\nmemory 4GiB\nsuccess 30000", [3 << 30, 1 << 30]),
        ("cache\nmemory 1Mi\nsuccess 1000000", [768 << 10, 256 << 10]),
        ("cache\nsuccess 0", [524_288, 5_120_000]),
        ("cache\ndenial 20000", [5_120_000, 10_240_000]),
    ] {
        assert_eq!(read(text).unwrap().budgets(), budgets, "{text}");
    }
}

#[test]
fn everything_set() {
    let settings = read(
        "cache 30 example.org 10.0.0.0/24
         success 5000 60 2
         denial 500 10
         prefetch 4 2m 25%
         serve_stale 2h verify 500ms 30s 10s
         serve_stale_policy Prefer_Positive
         servfail 1m
         disable success a.example.org b.example.org
         disable denial
         keepttl",
    )
    .unwrap();
    assert_eq!(settings.zones_label(), "example.org.,0.0.10.in-addr.arpa.");
    let success = &settings.success;
    assert_eq!(
        (success.capacity, success.max_ttl, success.min_ttl),
        (5000, 60, 2)
    );
    assert_eq!(success.disabled.len(), 2);
    let denial = &settings.denial;
    assert_eq!(
        (denial.capacity, denial.max_ttl, denial.min_ttl),
        (500, 10, 5)
    );
    assert_eq!(denial.disabled, [Zone::root()]);
    let prefetch = settings.prefetch;
    assert_eq!(
        (prefetch.amount, prefetch.gap.as_secs(), prefetch.percentage),
        (4, 120, 25)
    );
    let stale = Stale {
        window: 7200,
        verify: Some(Duration::from_millis(500)),
        ttl: 30,
        recheck: Duration::from_secs(10),
        prefer_positive: true,
    };
    assert_eq!(
        (settings.stale, settings.servfail, settings.keep_ttl),
        (stale, 60, true)
    );
}

#[test]
fn later_options_count() {
    let settings = read("cache\nserve_stale 2h verify\nserve_stale 3h").unwrap();
    assert_eq!(
        (settings.stale.window, settings.stale.verify),
        (10_800, None)
    );
    let settings = read("cache\ndisable denial a.\ndisable denial b.").unwrap();
    assert_eq!(settings.denial.disabled.len(), 1);
}

#[test]
fn errors_say_where_and_what() {
    let count =
        |word: &str| format!("Wrong argument count or unexpected line ending after '{word}'");
    let cases: Vec<(&str, String)> = vec![
        ("cache 0", "cache TTL can not be zero or negative: 0".into()),
        (
            "cache -1",
            "cache TTL can not be zero or negative: -1".into(),
        ),
        ("cache\nfoo 1", count("foo")),
        ("cache\nsuccess", count("success")),
        (
            "cache\nsuccess many",
            "strconv.Atoi: parsing \"many\": invalid syntax".into(),
        ),
        (
            "cache\nsuccess 10 0",
            "cache TTL can not be zero or negative: 0".into(),
        ),
        (
            "cache\ndenial 10 5 -1",
            "cache min TTL can not be negative: -1".into(),
        ),
        ("cache\nprefetch", count("prefetch")),
        ("cache\nprefetch 1 2m 10% x", count("x")),
        (
            "cache\nprefetch -1",
            "prefetch amount should be positive: -1".into(),
        ),
        ("cache\nprefetch 1 x", "time: invalid duration \"x\"".into()),
        (
            "cache\nprefetch 1 1m 20",
            "last character of percentage should be `%`, but is: '0'".into(),
        ),
        (
            "cache\nprefetch 1 1m 9%",
            "percentage should fall in range [10, 90]: 9".into(),
        ),
        (
            "cache\nserve_stale -1s",
            "invalid negative duration for serve_stale".into(),
        ),
        (
            "cache\nserve_stale 1h later",
            "invalid value for serve_stale refresh mode: later".into(),
        ),
        (
            "cache\nserve_stale 1h verify -1s",
            "invalid negative timeout for serve_stale verify".into(),
        ),
        (
            "cache\nserve_stale 1h verify x",
            "invalid serve_stale verify timeout: time: invalid duration \"x\"".into(),
        ),
        (
            "cache\nserve_stale 1h immediate -1s",
            "invalid negative response TTL for serve_stale".into(),
        ),
        (
            "cache\nserve_stale 1h immediate 1500ms",
            "serve_stale response TTL must be a whole number of seconds".into(),
        ),
        (
            "cache\nserve_stale 1h immediate 1s -1s",
            "invalid negative failure recheck for serve_stale".into(),
        ),
        (
            "cache\nserve_stale 1h immediate 1s 6m",
            "serve_stale failure recheck cannot exceed 5 minutes".into(),
        ),
        ("cache\nserve_stale 1h immediate 1s 1s 1s", count("1s")),
        ("cache\nserve_stale 1h verify 1s 1s 1s 1s", count("1s")),
        (
            "cache\nserve_stale_policy prefer_positive",
            "serve_stale_policy requires serve_stale".into(),
        ),
        (
            "cache\nserve_stale_policy newest",
            "invalid serve_stale_policy: newest".into(),
        ),
        ("cache\nservfail", count("servfail")),
        (
            "cache\nservfail -1s",
            "invalid negative ttl for servfail".into(),
        ),
        (
            "cache\nservfail 6m",
            "caching SERVFAIL responses over 5 minutes is not permitted".into(),
        ),
        ("cache\ndisable", count("disable")),
        (
            "cache\ndisable all",
            "cache type for disable must be \"success\" or \"denial\"".into(),
        ),
        ("cache\nkeepttl yes", count("yes")),
        ("cache\nmemory", count("memory")),
        ("cache\nmemory 1Mi 1Mi", count("1Mi")),
        (
            "cache\nmemory 10",
            "cache memory can not be less than 1Mi: 10".into(),
        ),
        ("cache\nmemory 64Q", "invalid size for memory: 64Q".into()),
        ("cache\nmemory Mi", "invalid size for memory: Mi".into()),
        ("cache\nmemory -1", "invalid size for memory: -1".into()),
    ];
    for (text, message) in cases {
        let line = text.lines().count();
        let expected = format!("Corefile:{line} - Error during parsing: {message}");
        assert_eq!(read(text).unwrap_err(), expected, "{text}");
    }
    let twice = "cache\nserve_stale\nserve_stale_policy prefer_positive\nserve_stale_policy prefer_positive";
    assert!(
        read(twice)
            .unwrap_err()
            .ends_with("serve_stale_policy can only be specified once")
    );
}
