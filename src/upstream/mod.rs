//! Exchanges with other name servers over UDP and TCP.
