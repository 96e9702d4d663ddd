//! Numbers of the DNS protocol with their names: types, classes, response codes, opcodes.

use std::fmt;
use std::str::FromStr;

macro_rules! code {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, { $($(#[$vdoc:meta])* $variant:ident = $value:literal => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u16);

        impl $name {
            $($(#[$vdoc])* pub const $variant: Self = Self($value);)*

            /// The mnemonic, where there is one.
            pub const fn mnemonic(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.mnemonic() {
                    Some(text) => f.pad(text),
                    None => write!(f, concat!($prefix, "{}"), self.0),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = UnknownCode;

            fn from_str(text: &str) -> Result<Self, UnknownCode> {
                let upper = text.to_ascii_uppercase();
                match upper.as_str() {
                    $($text => Ok(Self($value)),)*
                    other => other
                        .strip_prefix($prefix)
                        .and_then(|n| n.parse().ok())
                        .map(Self)
                        .ok_or(UnknownCode),
                }
            }
        }
    };
}

/// A mnemonic that names no known code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown mnemonic")]
pub struct UnknownCode;

code! {
    /// A resource record type or query type (RFC 1035 §3.2.2 and the IANA registry).
    RecordType, "TYPE", {
        /// IPv4 address.
        A = 1 => "A",
        /// Authoritative name server.
        NS = 2 => "NS",
        /// Alias.
        CNAME = 5 => "CNAME",
        /// Start of authority.
        SOA = 6 => "SOA",
        /// Domain name pointer.
        PTR = 12 => "PTR",
        /// Host information.
        HINFO = 13 => "HINFO",
        /// Mail exchange.
        MX = 15 => "MX",
        /// Text.
        TXT = 16 => "TXT",
        /// Responsible person (RFC 1183).
        RP = 17 => "RP",
        /// AFS data base (RFC 1183).
        AFSDB = 18 => "AFSDB",
        /// Signature (RFC 2535, and SIG(0)).
        SIG = 24 => "SIG",
        /// Key (RFC 2535).
        KEY = 25 => "KEY",
        /// IPv6 address (RFC 3596).
        AAAA = 28 => "AAAA",
        /// Location (RFC 1876).
        LOC = 29 => "LOC",
        /// Server selection (RFC 2782).
        SRV = 33 => "SRV",
        /// Naming authority pointer (RFC 3403).
        NAPTR = 35 => "NAPTR",
        /// Key exchanger (RFC 2230).
        KX = 36 => "KX",
        /// Certificate (RFC 4398).
        CERT = 37 => "CERT",
        /// Alias of a subtree (RFC 6672).
        DNAME = 39 => "DNAME",
        /// EDNS pseudo record (RFC 6891).
        OPT = 41 => "OPT",
        /// Delegation signer (RFC 4034).
        DS = 43 => "DS",
        /// SSH fingerprint (RFC 4255).
        SSHFP = 44 => "SSHFP",
        /// DNSSEC signature (RFC 4034).
        RRSIG = 46 => "RRSIG",
        /// Next secure record (RFC 4034).
        NSEC = 47 => "NSEC",
        /// DNSSEC key (RFC 4034).
        DNSKEY = 48 => "DNSKEY",
        /// Hashed next secure record (RFC 5155).
        NSEC3 = 50 => "NSEC3",
        /// NSEC3 parameters (RFC 5155).
        NSEC3PARAM = 51 => "NSEC3PARAM",
        /// TLS association (RFC 6698).
        TLSA = 52 => "TLSA",
        /// Child DS (RFC 7344).
        CDS = 59 => "CDS",
        /// Child DNSKEY (RFC 7344).
        CDNSKEY = 60 => "CDNSKEY",
        /// OpenPGP key (RFC 7929).
        OPENPGPKEY = 61 => "OPENPGPKEY",
        /// Service binding (RFC 9460).
        SVCB = 64 => "SVCB",
        /// Service binding for HTTPS (RFC 9460).
        HTTPS = 65 => "HTTPS",
        /// Sender policy (RFC 7208).
        SPF = 99 => "SPF",
        /// Transaction key (RFC 2930).
        TKEY = 249 => "TKEY",
        /// Transaction signature (RFC 8945).
        TSIG = 250 => "TSIG",
        /// Incremental zone transfer (RFC 1995).
        IXFR = 251 => "IXFR",
        /// Zone transfer (RFC 5936).
        AXFR = 252 => "AXFR",
        /// Any type (RFC 8482).
        ANY = 255 => "ANY",
        /// Resource identifier (RFC 7553).
        URI = 256 => "URI",
        /// Certification authority authorization (RFC 8659).
        CAA = 257 => "CAA",
    }
}

code! {
    /// A class (RFC 1035 §3.2.4).
    Class, "CLASS", {
        /// The Internet.
        IN = 1 => "IN",
        /// Chaos.
        CH = 3 => "CH",
        /// Hesiod.
        HS = 4 => "HS",
        /// No class (RFC 2136).
        NONE = 254 => "NONE",
        /// Any class.
        ANY = 255 => "ANY",
    }
}

code! {
    /// A response code, with the eight upper bits that EDNS adds (RFC 1035 §4.1.1, RFC 6895 §2.3).
    Rcode, "RCODE", {
        /// No error.
        NOERROR = 0 => "NOERROR",
        /// The server could not read the query.
        FORMERR = 1 => "FORMERR",
        /// The server failed.
        SERVFAIL = 2 => "SERVFAIL",
        /// The name does not exist.
        NXDOMAIN = 3 => "NXDOMAIN",
        /// The kind of query is not implemented.
        NOTIMP = 4 => "NOTIMP",
        /// The server refuses.
        REFUSED = 5 => "REFUSED",
        /// A name exists when it should not (RFC 2136).
        YXDOMAIN = 6 => "YXDOMAIN",
        /// An RRset exists when it should not (RFC 2136).
        YXRRSET = 7 => "YXRRSET",
        /// An RRset that should exist does not (RFC 2136).
        NXRRSET = 8 => "NXRRSET",
        /// The server is not authoritative, or not authorized (RFC 2136, RFC 8945).
        NOTAUTH = 9 => "NOTAUTH",
        /// The name is not contained in the zone (RFC 2136).
        NOTZONE = 10 => "NOTZONE",
        /// DSO-TYPE not implemented (RFC 8490).
        DSOTYPENI = 11 => "DSOTYPENI",
        /// EDNS version not supported (RFC 6891 §9); the same number is BADSIG in TSIG.
        BADVERS = 16 => "BADVERS",
        /// Key not recognized (RFC 8945).
        BADKEY = 17 => "BADKEY",
        /// Signature out of time window (RFC 8945).
        BADTIME = 18 => "BADTIME",
        /// Bad TKEY mode (RFC 2930).
        BADMODE = 19 => "BADMODE",
        /// Duplicate key name (RFC 2930).
        BADNAME = 20 => "BADNAME",
        /// Algorithm not supported (RFC 2930).
        BADALG = 21 => "BADALG",
        /// Bad truncation (RFC 8945).
        BADTRUNC = 22 => "BADTRUNC",
        /// Bad or missing server cookie (RFC 7873).
        BADCOOKIE = 23 => "BADCOOKIE",
    }
}

code! {
    /// An opcode (RFC 1035 §4.1.1).
    Opcode, "OPCODE", {
        /// Standard query.
        QUERY = 0 => "QUERY",
        /// Inverse query (obsolete).
        IQUERY = 1 => "IQUERY",
        /// Server status.
        STATUS = 2 => "STATUS",
        /// Notification of a zone change (RFC 1996).
        NOTIFY = 4 => "NOTIFY",
        /// Dynamic update (RFC 2136).
        UPDATE = 5 => "UPDATE",
    }
}
