use super::{Error, Token};
use crate::plugin::Block;
pub fn block(_keys: &[Token], _default_port: u16) -> Result<Block, Error> {
    todo!()
}
pub fn check_overlap(_blocks: &[&Block]) -> Result<(), Error> {
    todo!()
}
