//! The file: head, a section for each kind, an end with counts and checksum.
//!
//! ```text
//! "PORTSNAP"  version: u32, big endian
//! written: number, Unix seconds        settings: text
//! kind: octet, 1 …  { length: number, > 0   object }*  0   count: number      (each kind once)
//! 0   count of all: number   SHA-256 of everything before it
//! ```
//!
//! Numbers and texts are those of [`super::codec`]. Written and read as a stream.

use super::super::object::{Key, Kind, Object};
use super::codec::{self, KINDS};
use crate::limits::SNAPSHOT_RECORD_BYTES;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use std::io::{self, Read, Write};

/// The version that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"PORTSNAP";
/// Octets of the settings that are read.
const SETTINGS_BYTES: usize = 64 * 1024;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It begins otherwise.
    #[error("it is no snapshot of this server")]
    Magic,
    /// Another version wrote it.
    #[error("it is of format {0}, and this version reads format {VERSION}")]
    Version(u32),
    /// It ends too early.
    #[error("it is truncated")]
    Truncated,
    /// Its content is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// It is the state of another cluster, or of other settings.
    #[error("it is a snapshot of something else: of {was}; this is {is}")]
    Foreign {
        /// What was written.
        was: String,
        /// What is configured.
        is: String,
    },
}

/// What stands before the objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// When the file was written, in Unix seconds.
    pub(super) written: u64,
    /// What it is a snapshot of, in words.
    pub(super) settings: String,
}

/// Writes a file.
pub(super) struct Writer<W> {
    out: W,
    digest: Context,
    record: Vec<u8>,
    /// Objects of the section, and of all.
    counts: [u64; 2],
    /// Objects too large for a record, which are left out.
    left_out: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Objects.
    pub(super) count: u64,
    /// Objects too large for a record, which were left out.
    pub(super) left_out: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the head.
    pub(super) fn new(out: W, head: &Head) -> io::Result<Self> {
        let mut writer = Self {
            out,
            digest: Context::new(&SHA256),
            record: Vec::new(),
            counts: [0; 2],
            left_out: 0,
        };
        let mut octets = MAGIC.to_vec();
        octets.extend(VERSION.to_be_bytes());
        codec::number(head.written, &mut octets);
        codec::number(head.settings.len() as u64, &mut octets);
        octets.extend_from_slice(head.settings.as_bytes());
        writer.put(&octets)?;
        Ok(writer)
    }

    fn put(&mut self, octets: &[u8]) -> io::Result<()> {
        self.digest.update(octets);
        self.out.write_all(octets)
    }

    /// Writes the objects of a kind, which `each` gives to the function it is called with; the kinds
    /// in the order of [`KINDS`].
    pub(super) fn section(
        &mut self,
        mark: u8,
        each: impl FnOnce(&mut dyn FnMut(Key, Object)),
    ) -> io::Result<()> {
        self.put(&[mark])?;
        let mut result = Ok(());
        each(&mut |key, object| {
            if result.is_ok() {
                result = self.object(&key, &object);
            }
        });
        result?;
        let count = std::mem::take(&mut self.counts[0]);
        self.end(count)
    }

    fn object(&mut self, key: &Key, object: &Object) -> io::Result<()> {
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        codec::encode(key, object, &mut record);
        let result = if record.len() > SNAPSHOT_RECORD_BYTES {
            self.left_out += 1;
            Ok(())
        } else {
            self.counts = self.counts.map(|count| count + 1);
            let mut length = Vec::with_capacity(10);
            codec::number(record.len() as u64, &mut length);
            self.put(&length).and_then(|()| self.put(&record))
        };
        self.record = record;
        result
    }

    fn end(&mut self, count: u64) -> io::Result<()> {
        let mut end = vec![0];
        codec::number(count, &mut end);
        self.put(&end)
    }

    /// Writes the end.
    pub(super) fn finish(mut self) -> io::Result<Summary> {
        let (count, left_out) = (self.counts[1], self.left_out);
        self.end(count)?;
        self.out.write_all(self.digest.finish().as_ref())?;
        self.out.flush()?;
        Ok(Summary { count, left_out })
    }
}

/// Reads a file to its end and checks everything but whose it is. What `each` gets is to be trusted
/// only if the whole is `Ok`: hence twice, first to check.
pub(super) fn read(input: impl Read, each: &mut dyn FnMut(Key, Object)) -> Result<Head, Refused> {
    let mut input = Input {
        input,
        digest: Context::new(&SHA256),
        record: Vec::new(),
    };
    if &input.array::<8>()? != MAGIC {
        return Err(Refused::Magic);
    }
    let version = u32::from_be_bytes(input.array()?);
    if version != VERSION {
        return Err(Refused::Version(version));
    }
    let written = input.number()?;
    let settings = input.record(SETTINGS_BYTES)?.to_vec();
    let settings =
        String::from_utf8(settings).map_err(|_| Refused::Damaged("the settings are no text"))?;
    let mut kinds = KINDS.iter();
    let mut total = 0;
    loop {
        let [mark] = input.array()?;
        if mark == 0 {
            break;
        }
        let Some(&(kind, _)) = kinds.find(|(_, known)| *known == mark) else {
            return Err(Refused::Damaged("a kind that is none, or stands twice"));
        };
        total += section(&mut input, kind, each)?;
    }
    if input.number()? != total {
        return Err(Refused::Damaged("not as many objects as it says"));
    }
    let digest = input.digest.clone().finish();
    if input.array::<SHA256_OUTPUT_LEN>()? != digest.as_ref() {
        return Err(Refused::Damaged("the checksum is wrong"));
    }
    match input.input.read(&mut [0])? {
        0 => Ok(Head { written, settings }),
        _ => Err(Refused::Damaged("something stands behind its end")),
    }
}

/// Reads the objects of a kind; gives how many.
fn section(
    input: &mut Input<impl Read>,
    kind: Kind,
    each: &mut dyn FnMut(Key, Object),
) -> Result<u64, Refused> {
    let mut count = 0;
    loop {
        let record = input.record(SNAPSHOT_RECORD_BYTES)?;
        if record.is_empty() {
            break;
        }
        let decoded = codec::decode(kind, record);
        let (key, object) = decoded.ok_or(Refused::Damaged("an object that is none"))?;
        each(key, object);
        count += 1;
    }
    match input.number()? == count {
        true => Ok(count),
        false => Err(Refused::Damaged("not as many objects as it says")),
    }
}

struct Input<R> {
    input: R,
    digest: Context,
    record: Vec<u8>,
}

impl<R: Read> Input<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let mut octets = [0; N];
        match self.input.read_exact(&mut octets) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Refused::Truncated),
            Err(error) => Err(error.into()),
            Ok(()) => {
                self.digest.update(&octets);
                Ok(octets)
            }
        }
    }

    fn number(&mut self) -> Result<u64, Refused> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let [octet] = self.array()?;
            value |= u64::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                return Ok(value);
            }
        }
        Err(Refused::Damaged("a number that is too large"))
    }

    /// A length and so many octets. A length that lies takes no memory.
    fn record(&mut self, limit: usize) -> Result<&[u8], Refused> {
        let len = self.number()?;
        if len > limit as u64 {
            return Err(Refused::Damaged("a length that is too large"));
        }
        self.record.clear();
        let read = (&mut self.input).take(len).read_to_end(&mut self.record)?;
        if (read as u64) < len {
            return Err(Refused::Truncated);
        }
        self.digest.update(&self.record);
        Ok(&self.record)
    }
}
