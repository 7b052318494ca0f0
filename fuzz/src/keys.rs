//! The idempotency key of a header line.

use tower_idempotency::KeyRules;
use tower_idempotency::core::IdempotencyKey;

/// What holds of any line.
pub fn check(line: &[u8]) {
    let lenient = IdempotencyKey::parse(line);
    if let Ok(key) = &lenient {
        let text = key.as_str();
        assert!((1..=255).contains(&text.len()), "{text:?}");
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text:?}");
        let quoted = format!("\"{}\"", text.replace('\\', r"\\").replace('"', r#"\""#));
        assert_eq!(IdempotencyKey::parse(quoted.as_bytes()).as_ref(), Ok(key));
        assert_eq!(KeyRules::new().strict().parse(quoted.as_bytes()).as_ref(), Ok(key));
    }
    let rules = [
        KeyRules::new(),
        KeyRules::new().strict(),
        KeyRules::new().uuid(),
        KeyRules::new().strict().uuid(),
        KeyRules::new().min_length(16).max_length(64),
        KeyRules::new().check(|key| if key.contains(' ') { Err("it has a space") } else { Ok(()) }),
    ];
    for (at, rules) in rules.iter().enumerate() {
        // A rule refuses, and never reads another key.
        let Ok(key) = rules.parse(line) else { continue };
        assert_eq!(lenient.as_ref(), Ok(&key), "rule {at}");
        let text = key.as_str();
        match at {
            2 | 3 => assert_eq!((text.len(), text.matches('-').count()), (36, 4), "{text:?}"),
            4 => assert!((16..=64).contains(&text.len()), "{text:?}"),
            5 => assert!(!text.contains(' '), "{text:?}"),
            _ => {}
        }
    }
    assert_eq!(KeyRules::new().parse(line), lenient);
}
