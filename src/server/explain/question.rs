//! The parameters of a request.

use crate::dns::{Class, Name, OwnedQuery, RecordType, name};
use crate::plugin::Transport;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The parameter that names a listening address.
pub const LISTENER: &str = "listener";

/// The UDP payload size that the question offers, as `dig` does.
const UDP_SIZE: u16 = 1232;

/// A question to explain.
#[derive(Clone, Debug)]
pub struct Question {
    /// The query as a packet: id 0, RD, EDNS with 1,232 octets and no option.
    pub query: OwnedQuery,
    /// The name as it was given, in presentation format with its final dot.
    pub name: String,
    /// The type.
    pub qtype: RecordType,
    /// The class.
    pub qclass: Class,
    /// Who is said to ask; port 0 if none was given.
    pub client: SocketAddr,
    /// UDP or TCP.
    pub transport: Transport,
    /// The listening address to ask, as `show` writes it; `None` for the first that serves
    /// the name.
    pub listener: Option<String>,
}

impl Question {
    /// Reads the query part of a URI: `name` (needed), `type` (A), `class` (IN), `client`
    /// (127.0.0.1), `proto` (udp), `dnssec` (0), `listener`.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut given: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key)?, decode(value)?);
            if given.iter().any(|(before, _)| *before == key) {
                return Err(format!("parameter {key:?} is given twice"));
            }
            given.push((key.into_owned(), value.into_owned()));
        }
        let known = [
            "name", "type", "class", "client", "proto", "dnssec", LISTENER,
        ];
        if let Some((key, _)) = given.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            let known = known.join(", ");
            return Err(format!("unknown parameter {key:?}; there are {known}"));
        }
        let get = |key: &str| {
            let mut found = given.iter().filter(|(name, _)| name == key);
            found.next().map(|(_, value)| value.as_str())
        };
        let text = get("name").filter(|name| !name.is_empty());
        let text = text.ok_or("parameter name is missing: /explain?name=www.example.org&type=A")?;
        let wire = wire(text)?;
        let qtype = get("type").map_or(Ok(RecordType::A), |text| {
            text.parse()
                .map_err(|_| format!("type {text:?} is not known"))
        })?;
        if matches!(qtype, RecordType::AXFR | RecordType::IXFR | RecordType::OPT) {
            return Err(format!("type {qtype} is no question for one answer"));
        }
        let qclass = get("class").map_or(Ok(Class::IN), |text| {
            text.parse()
                .map_err(|_| format!("class {text:?} is not known"))
        })?;
        let transport = match get("proto") {
            None | Some("udp") => Transport::Udp,
            Some("tcp") => Transport::Tcp,
            Some(other) => return Err(format!("proto {other:?} is neither udp nor tcp")),
        };
        let dnssec = match get("dnssec") {
            None | Some("0" | "false") => false,
            Some("1" | "true") => true,
            Some(other) => return Err(format!("dnssec {other:?} is neither 0 nor 1")),
        };
        let mut shown = String::new();
        // Writing to a string does not fail.
        let _ = name::write_text(&wire, &mut shown);
        Ok(Self {
            query: packet(&wire, qtype, qclass, dnssec)?,
            name: shown,
            qtype,
            qclass,
            client: get("client").map_or(Ok((Ipv4Addr::LOCALHOST, 0).into()), client)?,
            transport,
            listener: get(LISTENER).map(str::to_owned),
        })
    }
}

/// The name in wire form, in the case it was given in.
fn wire(text: &str) -> Result<Vec<u8>, String> {
    let mut wire = Vec::with_capacity(text.len() + 2);
    let written = match text {
        "." => Ok(()),
        text => name::write_labels(text, &mut wire),
    };
    wire.push(0);
    written
        .and_then(|()| Name::read(&wire, 0))
        .map_err(|error| format!("name {text:?} is no domain name: {error}"))?;
    Ok(wire)
}

fn client(text: &str) -> Result<SocketAddr, String> {
    let ip = |text: &str| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    let client = ip(text).or_else(|_| text.parse());
    let client: SocketAddr =
        client.map_err(|_| format!("client {text:?} is neither an address nor ADDRESS:PORT"))?;
    // As the server sees its clients.
    Ok(SocketAddr::new(client.ip().to_canonical(), client.port()))
}

fn packet(
    name: &[u8],
    qtype: RecordType,
    qclass: Class,
    dnssec: bool,
) -> Result<OwnedQuery, String> {
    let plain = OwnedQuery::ask(name, qtype, qclass, true);
    let mut packet = plain.view().packet().to_vec();
    // ARCOUNT, and the OPT record.
    if let Some(count) = packet.get_mut(11) {
        *count = 1;
    }
    packet.push(0);
    packet.extend_from_slice(&RecordType::OPT.0.to_be_bytes());
    packet.extend_from_slice(&UDP_SIZE.to_be_bytes());
    packet.extend_from_slice(&[0, 0, if dnssec { 0x80 } else { 0 }, 0, 0, 0]);
    OwnedQuery::new(packet).map_err(|reject| format!("no query can be made of it: {reject:?}"))
}

/// Takes `%41` for `A` (RFC 3986 §2.1). `+` stays what it is.
fn decode(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.contains('%') {
        return Ok(text.into());
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    let digit = |octet: Option<u8>| {
        let digit = octet.and_then(|octet| (octet as char).to_digit(16));
        digit.ok_or_else(|| format!("{text:?} has a % without two hexadecimal digits"))
    };
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            // Two digits of 16 fit an octet.
            b'%' => (digit(rest.next())? << 4 | digit(rest.next())?) as u8,
            octet => octet,
        });
    }
    let decoded = String::from_utf8(octets);
    Ok(decoded
        .map_err(|_| format!("{text:?} is not UTF-8"))?
        .into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters() {
        let question = Question::parse("name=WWW.Example.org").unwrap();
        assert_eq!(question.name, "WWW.Example.org.");
        assert_eq!(
            (question.qtype, question.qclass),
            (RecordType::A, Class::IN)
        );
        assert_eq!(question.client.to_string(), "127.0.0.1:0");
        let view = question.query.view();
        assert_eq!(view.name().to_string(), "www.example.org.");
        assert_eq!(view.name_as_typed(), b"\x03WWW\x07Example\x03org\0");
        assert_eq!((view.udp_limit(), view.dnssec_ok()), (1232, false));
        let all = "type=aaaa&name=%2e&class=CH&client=[fd00::1]:4000&proto=tcp&dnssec=1&listener=dns://:53";
        let question = Question::parse(all).unwrap();
        assert_eq!((&*question.name, question.qtype), (".", RecordType::AAAA));
        assert_eq!(question.client.to_string(), "[fd00::1]:4000");
        assert!(question.query.view().dnssec_ok());
        assert_eq!(question.listener.as_deref(), Some("dns://:53"));
        let mapped = Question::parse("name=a&client=::ffff:10.0.0.1").unwrap();
        assert_eq!(mapped.client.ip().to_string(), "10.0.0.1");
        assert_eq!(
            Question::parse("name=a&type=TYPE65280").unwrap().qtype.0,
            65280
        );
    }

    #[test]
    fn what_is_wrong() {
        for (query, error) in [
            (
                "",
                "parameter name is missing: /explain?name=www.example.org&type=A",
            ),
            (
                "name=",
                "parameter name is missing: /explain?name=www.example.org&type=A",
            ),
            ("name=a&name=b", "parameter \"name\" is given twice"),
            (
                "name=a&typ=A",
                "unknown parameter \"typ\"; there are name, type, class, client, proto, dnssec, listener",
            ),
            ("name=a..b", "name \"a..b\" is no domain name: "),
            ("name=a%2", "\"a%2\" has a % without two hexadecimal digits"),
            ("name=%ff", "\"%ff\" is not UTF-8"),
            ("name=a&type=WAT", "type \"WAT\" is not known"),
            (
                "name=a&type=AXFR",
                "type AXFR is no question for one answer",
            ),
            ("name=a&class=XX", "class \"XX\" is not known"),
            (
                "name=a&client=pod",
                "client \"pod\" is neither an address nor ADDRESS:PORT",
            ),
            ("name=a&proto=tls", "proto \"tls\" is neither udp nor tcp"),
            ("name=a&dnssec=2", "dnssec \"2\" is neither 0 nor 1"),
        ] {
            let found = Question::parse(query).unwrap_err();
            assert!(found.starts_with(error), "{query}: {found}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_question_or_an_error(query in "\\PC{0,60}", name in "[a-z%&=.\\\\0-9]{0,300}") {
            for text in [query, format!("name={name}"), format!("type=A&name={name}")] {
                if let Ok(question) = Question::parse(&text) {
                    let view = question.query.view();
                    prop_assert_eq!(view.qtype(), question.qtype);
                    prop_assert_eq!(view.udp_limit(), usize::from(UDP_SIZE));
                    // What is shown is the name that is asked for.
                    let shown = Name::from_text(&question.name).unwrap();
                    prop_assert_eq!(shown.wire(), view.name().wire());
                }
            }
        }
    }
}
