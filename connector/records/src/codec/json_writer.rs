//! Writes flat records as JSON: the very bytes that serde_json writes, in a fraction of the time.
//!
//! Nearly all bytes of a record are those of its texts, and serde_json looks at each of them alone.
//! Here a text is searched for what must be escaped a block at a time, and copied in runs. Numbers
//! are left to serde_json. A record with lists or maps in it is refused: none has any.

use serde::{
    Serialize, Serializer,
    ser::{Error as _, Impossible, SerializeStruct},
};
use serde_json::Error;

/// Bytes that are looked at together.
const BLOCK: usize = 32;

/// Writes a record behind what is there already.
pub(super) fn write(record: &impl Serialize, out: &mut Vec<u8>) -> Result<(), Error> {
    record.serialize(FlatWriter(out))
}

struct FlatWriter<'a>(&'a mut Vec<u8>);

/// An object with some of its fields written.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    any: bool,
}

fn text(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.push(b'"');
    while let Some(at) = first_to_escape(rest) {
        out.extend_from_slice(&rest[..at]);
        escape(rest[at], out);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn first_to_escape(bytes: &[u8]) -> Option<usize> {
    let needs_escape = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    // Without a branch to a byte, so that the compiler makes many comparisons at once.
    let any = |block: &[u8]| {
        block
            .iter()
            .fold(false, |found, byte| found | needs_escape(*byte))
    };
    let block = bytes.chunks(BLOCK).position(any)?;
    let within = bytes[block * BLOCK..]
        .iter()
        .position(|byte| needs_escape(*byte))?;
    Some(block * BLOCK + within)
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn not_flat<T>() -> Result<T, Error> {
    Err(Error::custom("records are flat"))
}

/// Numbers and the like, as serde_json writes them.
macro_rules! plain {
    ($($method:ident: $type:ty,)*) => {
        $(fn $method(self, value: $type) -> Result<(), Error> {
            serde_json::to_writer(self.0, &value)
        })*
    };
}

impl<'a> Serializer for FlatWriter<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Impossible<(), Error>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Impossible<(), Error>;

    plain! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_f32: f32,
        serialize_f64: f64,
        serialize_char: char,
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        text(value, self.0);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_none()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Error> {
        self.0.push(b'{');
        Ok(Fields {
            out: self.0,
            any: false,
        })
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        not_flat()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        not_flat()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        not_flat()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        not_flat()
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        not_flat()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        not_flat()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        not_flat()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        not_flat()
    }
}

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        if self.any {
            self.out.push(b',');
        }
        self.any = true;
        text(key, self.out);
        self.out.push(b':');
        value.serialize(FlatWriter(self.out))
    }

    fn end(self) -> Result<(), Error> {
        self.out.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Serialize)]
    struct Sample {
        text: String,
        absent: Option<String>,
        real: f64,
        integer: i64,
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_serde_json(
            text in "([a-z \"\\\\\n\r\t\u{0}-\u{1f}é日😀]|[a-z ]{20,70}){0,8}",
            absent in prop::option::of(".{0,40}"),
            real in any::<f64>(),
            integer in any::<i64>(),
        ) {
            let sample = Sample { text, absent, real, integer };
            let mut ours = Vec::new();
            write(&sample, &mut ours).expect("a flat record");
            let theirs = serde_json::to_vec(&sample).expect("a record");
            prop_assert_eq!(String::from_utf8(ours), String::from_utf8(theirs));
        }
    }

    #[test]
    fn a_record_that_is_not_flat_is_refused() {
        write(&vec![1], &mut Vec::new()).expect_err("a list");
    }
}
