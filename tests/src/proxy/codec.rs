//! Kafka's primitive types on the wire: read, written, and copied from one answer into another.

use super::wire::{ApiKey, Malformed, Result};

/// A place in a frame that is read.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) flexible: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], flexible: bool) -> Self {
        Self {
            bytes,
            at: 0,
            flexible,
        }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn i16(&mut self) -> Result<i16> {
        let bytes = self.take(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(super) fn varint(&mut self) -> Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// A length; `None` is null. Compact lengths are one more than they say.
    pub(super) fn length(
        &mut self,
        classic: fn(&mut Self) -> Result<i32>,
    ) -> Result<Option<usize>> {
        if self.flexible {
            return Ok(self.varint()?.checked_sub(1));
        }
        Ok(usize::try_from(classic(self)?).ok())
    }

    pub(super) fn array(&mut self) -> Result<usize> {
        Ok(self.length(Self::i32)?.unwrap_or(0))
    }

    pub(super) fn string(&mut self) -> Result<Option<&'a [u8]>> {
        let length = self.length(|cursor| cursor.i16().map(i32::from))?;
        length.map(|length| self.take(length)).transpose()
    }

    pub(super) fn records(&mut self) -> Result<()> {
        if let Some(length) = self.length(Self::i32)? {
            self.take(length)?;
        }
        Ok(())
    }

    pub(super) fn tags(&mut self) -> Result<()> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let length = self.varint()?;
                self.take(length)?;
            }
        }
        Ok(())
    }
}

/// An answer in the making.
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) flexible: bool,
}

impl Answer {
    pub(super) fn new(correlation: i32, flexible: bool) -> Self {
        let mut answer = Self {
            bytes: correlation.to_be_bytes().to_vec(),
            flexible,
        };
        answer.tags();
        answer
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub(super) fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes
                .push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
            value >>= 7;
        }
        self.bytes.push(u8::try_from(value).expect("seven bits"));
    }

    pub(super) fn array(&mut self, length: usize) {
        if self.flexible {
            self.varint(length + 1);
        } else {
            self.i32(i32::try_from(length).expect("few elements"));
        }
    }

    pub(super) fn string(&mut self, text: Option<&[u8]>) {
        match (self.flexible, text) {
            (true, None) => self.varint(0),
            (true, Some(text)) => {
                self.varint(text.len() + 1);
                self.bytes.extend(text);
            }
            (false, None) => self.i16(-1),
            (false, Some(text)) => {
                self.i16(i16::try_from(text.len()).expect("a short string"));
                self.bytes.extend(text);
            }
        }
    }

    pub(super) fn tags(&mut self) {
        if self.flexible {
            self.varint(0);
        }
    }
}

/// Copies an answer, changing addresses on the way.
pub(super) struct Edit<'a> {
    pub(super) from: Cursor<'a>,
    pub(super) to: Answer,
}

impl<'a> Edit<'a> {
    pub(super) fn response(api: ApiKey, version: i16, frame: &'a [u8]) -> Result<Self> {
        let flexible = api.is_flexible(version);
        let mut from = Cursor::new(frame, flexible);
        let correlation = from.i32()?;
        from.tags()?;
        Ok(Self {
            from,
            to: Answer::new(correlation, flexible),
        })
    }

    pub(super) fn copy_bytes(&mut self, count: usize) -> Result<()> {
        let bytes = self.from.take(count)?;
        self.to.bytes.extend(bytes);
        Ok(())
    }

    pub(super) fn copy_array(&mut self) -> Result<usize> {
        let length = self.from.array()?;
        self.to.array(length);
        Ok(length)
    }

    pub(super) fn copy_string(&mut self) -> Result<()> {
        let text = self.from.string()?;
        self.to.string(text);
        Ok(())
    }

    pub(super) fn copy_tags(&mut self) -> Result<()> {
        let start = self.from.at;
        self.from.tags()?;
        let tags = &self.from.bytes[start..self.from.at];
        self.to.bytes.extend(tags);
        Ok(())
    }

    pub(super) fn map_address(
        &mut self,
        route: &mut dyn FnMut(&str, i32) -> (String, i32),
    ) -> Result<()> {
        let host = self.from.string()?.unwrap_or_default();
        let port = self.from.i32()?;
        let host = std::str::from_utf8(host).map_err(|_| Malformed)?;
        // An answer that names nobody says so with an empty host and port -1.
        let (host, port) = if host.is_empty() || port < 0 {
            (host.to_owned(), port)
        } else {
            route(host, port)
        };
        self.to.string(Some(host.as_bytes()));
        self.to.i32(port);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let rest = &self.from.bytes[self.from.at..];
        self.to.bytes.extend(rest);
        self.to.bytes
    }
}
