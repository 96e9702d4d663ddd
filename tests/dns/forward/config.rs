//! Every way to get a `forward` stanza wrong, and what the operator is told.

use crate::support::block::{Builder, block, error};
use portolan::plugin::Process;
use std::sync::Arc;

#[tokio::test]
async fn errors_say_what_and_where() {
    let sixteen = (1..=16).map(|n| format!("10.0.0.{n}")).collect::<Vec<_>>();
    let sixteen = format!("forward . {}", sixteen.join(" "));
    for (text, expected) in [
        (
            "forward",
            "Wrong argument count or unexpected line ending after 'forward'",
        ),
        (
            "forward .",
            "Wrong argument count or unexpected line ending after '.'",
        ),
        (&sixteen, "more than 15 TOs configured: 16"),
        (
            "forward . /nonexistent/file",
            "not an IP address or file: \"/nonexistent/file\"",
        ),
        (
            "forward . tls://9.9.9.9/path",
            "paths are not allowed in an encrypted destination: \"tls://9.9.9.9/path\"",
        ),
        (
            "forward . https://9.9.9.9/dns-query",
            "paths are not allowed in an encrypted destination: \"https://9.9.9.9/dns-query\"",
        ),
        (
            "forward . tls://9.9.9.9%a_b..c",
            "invalid TLS server name 'a_b..c'",
        ),
        ("forward . tls://", "not an IP address or file: \"\""),
        (
            "forward . quic://9.9.9.9",
            "'quic' is not supported as a destination protocol in forward: quic://9.9.9.9",
        ),
        ("forward a..b 10.0.0.1", "unable to normalize 'a..b'"),
    ] {
        let expected = format!("Corefile:1 - Error during parsing: {expected}");
        assert_eq!(error(text), expected, "{text}");
    }
    for (option, expected) in [
        ("bogus 1", "unknown property 'bogus'"),
        ("policy fastest", "unknown policy 'fastest'"),
        ("max_concurrent -1", "max_concurrent can't be negative: -1"),
        ("expire -1s", "expire can't be negative: -1s"),
        ("expire 1x", "time: invalid duration \"1x\""),
        (
            "health_check 1s bogus",
            "health_check: unknown option bogus",
        ),
        (
            "health_check 1s domain a..b",
            "health_check: invalid domain name a..b",
        ),
        ("next BOGUS", "BOGUS is not a valid rcode"),
        ("failover NOERROR", "NOERROR cannot be used in failover"),
        (
            "force_tcp yes",
            "Wrong argument count or unexpected line ending after 'yes'",
        ),
        (
            "except",
            "Wrong argument count or unexpected line ending after 'except'",
        ),
        (
            "doh_method PUT",
            "doh_method: unknown method 'PUT', must be POST or GET",
        ),
        (
            "resolver example.org",
            "resolver: not an IP address: \"example.org\"",
        ),
        (
            "private_zones no",
            "private_zones: unknown value 'no', must be answer or forward",
        ),
        (
            "search_leftovers answer x",
            "Wrong argument count or unexpected line ending after 'x'",
        ),
        (
            "source_address here",
            "source_address: invalid IP address 'here'",
        ),
    ] {
        let text = format!("forward . 10.0.0.1 {{\n {option}\n}}");
        let expected = format!("Corefile:2 - Error during parsing: {expected}");
        assert_eq!(error(&text), expected, "{option}");
    }
    assert_eq!(
        error("forward . 10.0.0.1 {\n max_age 5s\n}"),
        "Corefile:1 - Error during parsing: max_age (5s) must not be less than expire (10s)"
    );
}

#[tokio::test]
async fn every_option_is_taken() {
    let built = block(
        "forward example.org 10.0.0.1 10.0.0.1:53 dns://10.0.0.2:5353 [2001:db8::1]:53 {
            except a.example.org 10.0.0.0/8
            force_tcp
            prefer_udp
            expire 5s
            max_age 1m
            max_idle_conns 10
            read_timeout 500ms
            max_fails 0
            max_connect_attempts 3
            policy sequential
            health_check 1s no_rec domain example.org
            max_concurrent 100
            next NXDOMAIN servfail
            next_on_nodata
            failover SERVFAIL
            failfast_all_unhealthy_upstreams
            tls
            tls_servername dns.example
            doh_method GET
            resolver 10.0.0.3 10.0.0.4:54
            private_zones answer
            search_leftovers forward
        }",
    );
    assert!(built.chain.block().any_class, "FW-24");
    assert_eq!(built.chain.plugins().len(), 1);
}

#[tokio::test]
async fn a_file_gives_its_nameservers() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("empty"), "search a\n").unwrap();
    std::fs::write(
        directory.path().join("resolv.conf"),
        "nameserver 10.0.0.1\nnameserver 10.0.0.2\n",
    )
    .unwrap();
    let (mut own, _requests) = Process::new(tokio::runtime::Handle::current(), 1);
    own.corefile = Some(directory.path().join("Corefile"));
    let own = Arc::new(own);
    let build = |text: &str| {
        let process = Some(Arc::clone(&own));
        let builder = Builder {
            process,
            ..Builder::default()
        };
        builder.build(text).map_err(|error| error.to_string())
    };
    assert!(build("forward . resolv.conf").is_ok());
    assert_eq!(
        build("forward . empty").err().unwrap(),
        "Corefile:1 - Error during parsing: no valid upstream addresses found"
    );
    // Duplicates over files and addresses are one upstream each: 2 + 13 is allowed.
    let thirteen: Vec<_> = (1..=15).map(|n| format!("10.0.0.{n}")).collect();
    assert!(build(&format!("forward . resolv.conf {}", thirteen.join(" "))).is_ok());
}

#[tokio::test]
async fn files_for_tls_are_read_at_the_start() {
    use crate::support::encrypted::Authority;
    let authority = Authority::new("ours");
    let directory = authority.directory().to_owned();
    let (_, key) = authority.client();
    std::fs::write(directory.join("garbage.pem"), "no certificate").unwrap();
    let (mut own, _requests) = Process::new(tokio::runtime::Handle::current(), 1);
    own.corefile = Some(directory.join("Corefile"));
    let own = Arc::new(own);
    let build = |to: &str, option: &str| {
        let builder = Builder {
            process: Some(Arc::clone(&own)),
            ..Builder::default()
        };
        let built = builder.build(&format!("forward . {to} {{\n {option}\n}}"));
        built.map(drop).map_err(|error| error.to_string())
    };
    let (tls, https) = ("tls://9.9.9.9", "https://9.9.9.9");
    for (to, option) in [
        (tls, "tls"),
        (tls, "tls ca.pem"),
        (https, "tls client.pem client.key"),
        (https, "tls client.pem client.key ca.pem"),
        (tls, "tls_servername dns.example"),
        (
            "tls://9.9.9.9%dns.example https://9.9.9.9 9.9.9.9",
            "tls ca.pem",
        ),
    ] {
        assert_eq!(build(to, option), Ok(()), "{to} {option}");
    }
    let dir = directory.display();
    for (to, option, why) in [
        (
            tls,
            "tls none.pem",
            format!("tls: {dir}/none.pem: No such file or directory (os error 2)"),
        ),
        (
            "9.9.9.9",
            "tls none.pem",
            format!("tls: {dir}/none.pem: No such file or directory (os error 2)"),
        ),
        (
            tls,
            "tls garbage.pem",
            format!("tls: {dir}/garbage.pem: no certificate in it"),
        ),
        (
            tls,
            "tls client.pem garbage.pem",
            format!("tls: {dir}/garbage.pem: no items found"),
        ),
        (
            tls,
            "tls_servername a_b..c",
            "invalid TLS server name 'a_b..c'".into(),
        ),
        (
            tls,
            "tls a b c d",
            "Wrong argument count or unexpected line ending after 'd'".into(),
        ),
    ] {
        let found = build(to, option).unwrap_err();
        let rest = found.strip_prefix("Corefile:2 - Error during parsing: ");
        assert_eq!(rest, Some(&*why), "{found}");
    }
    // A key that is not the certificate's.
    let other = Authority::new("other");
    let (certificate, _) = other.client();
    let option = format!("tls {} {}", certificate.display(), key.display());
    let found = build(tls, &option).unwrap_err();
    assert!(
        found.starts_with("Corefile:2 - ") && found.contains("client.pem"),
        "{found}"
    );
    assert_eq!(
        build("tls://9.9.9.9%dns.example", "tls_servername dns.example").unwrap_err(),
        "Corefile:1 - Error during parsing: tls_servername cannot be used together with the \
         server name of an upstream: '%dns.example'"
    );
}
