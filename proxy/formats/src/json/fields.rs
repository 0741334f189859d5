//! Members of an object that are kept as they are written, to be written again.

use std::io;

use serde::de::IgnoredAny;

use super::{Object, Reader, parse};
use crate::{IndexError, document::text, limits::Allowance};

/// Members of an object, within bounds.
pub(crate) struct Fields {
    fields: Vec<(String, Vec<u8>)>,
    /// Bytes that may still be kept.
    left: Allowance,
}

impl Fields {
    /// Room for as many bytes as `left`.
    pub(crate) fn within(left: Allowance) -> Self {
        Fields { fields: Vec::new(), left }
    }

    /// Takes the value of `key`, which comes next in `reader`; it may have `most` bytes.
    ///
    /// # Errors
    /// [`IndexError::Malformed`] when it is no JSON, [`IndexError::TooLarge`] when there is no room for it.
    pub(crate) fn take(&mut self, key: &str, reader: &mut Reader<'_>, most: usize) -> Result<(), IndexError> {
        let value = reader.raw(most)?;
        self.left.take(key.len() + value.len())?;
        // Nobody has looked into its texts so far.
        let is_json = text(&value).is_ok() && parse::<IgnoredAny>(&value).is_ok();
        if !is_json {
            return Err(IndexError::malformed(format!("{key:?} is no JSON")));
        }
        self.fields.push((key.to_owned(), value));
        Ok(())
    }

    /// Writes them into `object`, in their order.
    ///
    /// # Errors
    /// Those of what it is written to.
    pub(crate) fn write(&self, object: &mut Object<'_>) -> io::Result<()> {
        self.fields.iter().try_for_each(|(key, value)| object.key(key)?.write_all(value))
    }
}
