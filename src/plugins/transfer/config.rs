//! The options of `transfer` (spec 3.19).

use crate::corefile::value;
use crate::corefile::{Directive, Error, Token};
use crate::dns::Zone;
use crate::limits::TRANSFER_SECONDARIES;
use std::net::{IpAddr, SocketAddr};

/// Where NOTIFY goes if the Corefile says no port.
const PORT: u16 = 53;

/// One occurrence of the directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stanza {
    /// The zones.
    pub zones: Vec<Zone>,
    /// Whether everybody may transfer (`to *`).
    pub everybody: bool,
    /// Who may transfer, and is told of changes.
    pub secondaries: Vec<SocketAddr>,
    /// The addresses that NOTIFY is sent from.
    pub sources: Vec<IpAddr>,
}

impl Stanza {
    /// Reads the directive; `zones` are the server block's.
    pub(super) fn read(directive: &Directive, zones: &[Zone]) -> Result<Self, Error> {
        let mut stanza = Self {
            zones: value::zones_or(&directive.args, zones)?,
            everybody: false,
            secondaries: Vec::new(),
            sources: Vec::new(),
        };
        for line in &directive.block {
            match line.name.as_str() {
                "to" => {
                    for token in line.some_args()? {
                        stanza.to(token)?;
                    }
                }
                "source" => {
                    let [token] = line.exactly()?;
                    let ip = token.as_str().parse();
                    let ip = ip.map_err(|_| not_an_address(token))?;
                    stanza.sources.push(ip);
                }
                other => return Err(line.error(format!("unknown property \"{other}\""))),
            }
        }
        if !stanza.everybody && stanza.secondaries.is_empty() {
            return Err(directive.error("'to' is required"));
        }
        Ok(stanza)
    }

    fn to(&mut self, token: &Token) -> Result<(), Error> {
        if token.as_str() == "*" {
            self.everybody = true;
            return Ok(());
        }
        let addr = secondary(token)?;
        if !self.secondaries.contains(&addr) {
            self.secondaries.push(addr);
        }
        if self.secondaries.len() > TRANSFER_SECONDARIES {
            let most = format!("more than {TRANSFER_SECONDARIES} addresses");
            return Err(token.error(most));
        }
        Ok(())
    }

    /// Whether this client may transfer.
    pub(super) fn allows(&self, client: IpAddr) -> bool {
        let mut listed = self.secondaries.iter();
        self.everybody || listed.any(|addr| addr.ip().to_canonical() == client)
    }

    /// The address to send NOTIFY to `secondary` from; `None` for any.
    pub(super) fn source_for(&self, secondary: SocketAddr) -> Option<IpAddr> {
        let mut sources = self.sources.iter().copied();
        sources.find(|ip| ip.is_ipv4() == secondary.is_ipv4())
    }
}

/// `IP`, `IP:PORT` or `[IP]:PORT`.
fn secondary(token: &Token) -> Result<SocketAddr, Error> {
    let text = token.as_str();
    let address = text
        .parse::<IpAddr>()
        .map(|ip| SocketAddr::new(ip, PORT))
        .or_else(|_| text.parse());
    address.map_err(|_| not_an_address(token))
}

fn not_an_address(token: &Token) -> Error {
    token.error(format!("must specify an IP address: `{token}'"))
}
