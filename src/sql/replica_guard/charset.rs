//! Character sets in which a character's second byte may be a backslash, a quote or a letter.
//!
//! A server whose session has one of these character sets splits the text at other places than this lexer does, if the
//! driver sends another encoding. So a statement that sets one is refused on a replica.

use crate::sql::dialect::Dialect;

/// Whether each byte of ASCII is a character of its own in this character set, at any place in a text.
#[must_use]
pub fn keeps_ascii_apart(name: &str, dialect: Dialect) -> bool {
    // As PostgreSQL compares them: letters and digits only.
    let mut plain = name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase());
    let mut buffer = [0_u8; 16];
    let length = buffer.iter_mut().zip(&mut plain).map(|(place, byte)| *place = byte).count();
    let Ok(name) = std::str::from_utf8(&buffer[..length]) else { return false };
    let known: &[&str] = if dialect.is_mysql() { &MYSQL } else { &POSTGRESQL };
    plain.next().is_none() && known.contains(&name)
}

const MYSQL: [&str; 32] = [
    "armscii8", "ascii", "binary", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "dec8",
    "eucjpms", "euckr", "gb2312", "geostd8", "greek", "hebrew", "hp8", "keybcs2", "koi8r", "koi8u", "latin1", "latin2",
    "latin5", "latin7", "macce", "macroman", "tis620", "ujis", "utf8", "utf8mb3", "utf8mb4",
];

const POSTGRESQL: [&str; 48] = [
    "alt",
    "euccn",
    "eucjis2004",
    "eucjp",
    "euckr",
    "euctw",
    "iso88591",
    "iso885910",
    "iso885913",
    "iso885914",
    "iso885915",
    "iso885916",
    "iso88592",
    "iso88593",
    "iso88594",
    "iso88595",
    "iso88596",
    "iso88597",
    "iso88598",
    "iso88599",
    "koi8",
    "koi8r",
    "koi8u",
    "latin1",
    "latin10",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "muleinternal",
    "sqlascii",
    "tcvn",
    "unicode",
    "utf8",
    "win",
    "win1250",
    "win1251",
    "win1252",
    "win1253",
    "win1254",
    "win1256",
    "win1257",
    "win866",
    "win874",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_as_the_servers_do() {
        for name in ["utf8", "UTF8MB4", "utf8mb3", "latin1"] {
            assert!(keeps_ascii_apart(name, Dialect::MySql) && keeps_ascii_apart(name, Dialect::MariaDb), "{name}");
        }
        for name in ["UTF-8", "utf_8", "SQL_ASCII", "ISO-8859-1"] {
            assert!(keeps_ascii_apart(name, Dialect::PostgreSql), "{name}");
        }
        for name in ["gbk", "big5", "sjis", "gb18030", "cp932", "swe7", "", "default", "utf8utf8utf8utf8utf8"] {
            assert!(!keeps_ascii_apart(name, Dialect::MySql), "{name}");
        }
        for name in ["GBK", "BIG5", "SJIS", "UHC", "JOHAB", "GB18030", "SHIFT_JIS_2004", "WIN936", "mskanji", "default"]
        {
            assert!(!keeps_ascii_apart(name, Dialect::PostgreSql), "{name}");
        }
    }
}
