//! How OpenPGP frames what it says (RFC 9580).

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Characters in a line of armor.
const LINE: usize = 64;

/// A packet of type `tag` (4.2).
pub(super) fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xc0 | tag];
    match body.len() {
        length @ 0..192 => packet.push(length as u8),
        length @ 192..8384 => {
            packet.extend([((length - 192) >> 8) as u8 + 192, ((length - 192) & 0xff) as u8]);
        }
        length => {
            packet.push(0xff);
            packet.extend((length as u32).to_be_bytes());
        }
    }
    packet.extend(body);
    packet
}

/// A subpacket of a signature (5.2.3.7); ours are all short.
pub(super) fn subpacket(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut subpacket = vec![body.len() as u8 + 1, kind];
    subpacket.extend(body);
    subpacket
}

/// A number (3.2): its length in bits, then itself without leading zeros.
pub(super) fn mpi(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros..];
    let bits = number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize);
    let mut mpi = (bits as u16).to_be_bytes().to_vec();
    mpi.extend(number);
    mpi
}

/// Armor (6.2) with the checksum that rpm wanted until 4.18.
pub(super) fn armored(kind: &str, packets: &[u8]) -> String {
    let mut text = format!("-----BEGIN PGP {kind}-----\n\n");
    let encoded = STANDARD.encode(packets);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    let sum = STANDARD.encode(&crc24(packets).to_be_bytes()[1..]);
    text.push_str(&format!("={sum}\n-----END PGP {kind}-----\n"));
    text
}

/// CRC-24 (6.1.1).
fn crc24(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x00b7_04ce, |sum, byte| {
        (0..8).fold(sum ^ (u32::from(*byte) << 16), |sum, _| {
            let next = sum << 1;
            if next & 0x0100_0000 == 0 { next } else { next ^ 0x0186_4cfb }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_numbers_are_those_of_the_rfc() {
        for (length, want) in [
            (0, vec![0xc2, 0]),
            (100, vec![0xc2, 0x64]),
            (191, vec![0xc2, 191]),
            (192, vec![0xc2, 192, 0]),
            (1723, vec![0xc2, 0xc5, 0xfb]),
            (8383, vec![0xc2, 223, 255]),
            (8384, vec![0xc2, 0xff, 0, 0, 0x20, 0xc0]),
        ] {
            let made = packet(2, &vec![0; length]);
            assert_eq!((&made[..want.len()], made.len()), (&want[..], want.len() + length));
        }
        assert_eq!(mpi(&[1]), [0, 1, 1]);
        assert_eq!(mpi(&[0, 1, 0xff]), [0, 9, 1, 0xff]);
        assert_eq!(mpi(&[0, 0]), [0, 0]);
        assert_eq!(crc24(b"123456789"), 0x21cf02, "the check value of CRC-24/OPENPGP");
    }
}
