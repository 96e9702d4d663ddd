//! What tells one configuration from another (RL-2).

use super::{Corefile, Token};
use ring::digest::{Context, SHA512};
use std::fmt::Write;

impl Corefile {
    /// The SHA-512 of the tree, in hexadecimal: of every token with its file and line. A comment
    /// does not change it; a line added above a directive does.
    pub fn fingerprint(&self) -> String {
        let mut hash = Hash(Context::new(&SHA512));
        hash.number(self.blocks.len());
        for block in &self.blocks {
            hash.tokens(&block.keys);
            hash.number(block.directives.len());
            for directive in &block.directives {
                hash.token(&directive.name);
                hash.tokens(&directive.args);
                hash.number(directive.block.len());
                for line in &directive.block {
                    hash.token(&line.name);
                    hash.tokens(&line.args);
                }
            }
        }
        let digest = hash.0.finish();
        let mut hex = String::with_capacity(2 * digest.as_ref().len());
        for octet in digest.as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{octet:02x}");
        }
        hex
    }
}

/// Lengths go before what they measure, so that no two trees give the same octets.
struct Hash(Context);

impl Hash {
    fn number(&mut self, number: usize) {
        self.0.update(&(number as u64).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.update(text.as_bytes());
    }

    fn token(&mut self, token: &Token) {
        self.text(&token.text);
        self.text(&token.file);
        self.number(token.line as usize);
    }

    fn tokens(&mut self, tokens: &[Token]) {
        self.number(tokens.len());
        tokens.iter().for_each(|token| self.token(token));
    }
}
