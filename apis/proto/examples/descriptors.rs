//! Writes the descriptor set of this crate to the file named by the first argument, for tools in other languages.

use std::io::{Error, ErrorKind};
use std::{env, fs};

fn main() -> Result<(), Error> {
    let file = env::args_os().nth(1).ok_or_else(|| Error::new(ErrorKind::InvalidInput, "usage: descriptors FILE"))?;
    fs::write(file, apogee_proto::DESCRIPTORS)
}
