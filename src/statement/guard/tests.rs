use super::*;

fn what(sql: &str, dialect: Dialect) -> Option<String> {
    refusal(sql, dialect, &[]).map(|refusal| refusal.what)
}

#[test]
fn smoke() {
    for sql in ["SELECT 1", "SELECT `a` FROM t WHERE a IN (%s, %s)"] {
        assert_eq!(what(sql, Dialect::MySql), None);
    }
}
