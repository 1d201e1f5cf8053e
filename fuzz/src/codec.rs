//! The reader and the writer of `base::codec` against each other.
//!
//! The first half of the input says what to read, one byte a step; the second half is read. Held:
//! 1. A failed read moves nothing past the end, and says where it failed.
//! 2. Whatever was read, written again, is what was consumed, byte for byte: every value has one form.
//! 3. A number's predicted length is its length.

use logwood_base::codec::{CodecError, Reader, Writer, varint_bytes};

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let (script, input) = bytes.split_at(bytes.len() / 2);
    let mut reader = Reader::new(input);
    let mut written = Vec::new();
    for &step in script {
        let (offset, remaining) = (reader.offset(), reader.remaining());
        assert_eq!(offset + remaining, input.len());
        match read_and_write(step, &mut reader, &mut written) {
            Ok(()) => {
                assert_eq!(written, input[..reader.offset()], "step {step}: written otherwise than read")
            }
            Err(error) => {
                assert!(
                    (offset..=input.len()).contains(&error.offset),
                    "{error} outside of what was being read"
                );
                assert!(reader.offset() <= input.len());
                // Where a failed read stops is not promised: go on from a place that is known.
                reader = Reader::new(input);
                reader.bytes(offset, "what was read before").expect("it was read before");
                assert_eq!(reader.offset(), offset);
            }
        }
    }
    assert_eq!(reader.finish("end").is_ok(), reader.remaining() == 0);
}

fn read_and_write(step: u8, reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), CodecError> {
    match step % 8 {
        0 => out.put_u8(reader.u8("u8")?),
        1 => out.put_u16(reader.u16("u16")?),
        2 => out.put_u32(reader.u32("u32")?),
        3 => out.put_u64(reader.u64("u64")?),
        4 => out.put_u128(reader.u128("u128")?),
        5 => {
            let before = reader.offset();
            let value = reader.varint("varint")?;
            assert_eq!(varint_bytes(value), reader.offset() - before, "predicted length of {value}");
            out.put_varint(value);
        }
        6 => {
            let limit = usize::from(step) * 4;
            let taken = reader.length_prefixed(limit, "length-prefixed")?;
            assert!(taken.len() <= limit);
            out.put_length_prefixed(taken);
        }
        _ => {
            let before = reader.offset();
            match reader.bytes(usize::from(step), "bytes") {
                Ok(taken) => out.put_bytes(taken),
                Err(error) => {
                    assert_eq!(reader.offset(), before, "a failed read of bytes consumes nothing");
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}
