//! What counts, in words for clients.

use std::fmt::Write as _;

use super::pointer::Pointer;
use super::rules::{BodyRule, FingerprintRules};

impl FingerprintRules {
    /// These rules as a text for the clients of your service: a Markdown list, with one point
    /// for each thing that the layer compares. The IETF draft (§2.5) asks servers to publish
    /// how they use keys.
    ///
    /// ```
    /// use tower_idempotency::FingerprintRules;
    ///
    /// let page = FingerprintRules::new().ignore_query().documentation();
    /// assert!(page.contains("- the method and the path\n") && !page.contains("the query"));
    /// ```
    pub fn documentation(&self) -> String {
        let mut page = "Two requests with the same idempotency key are the same request if these are the same:\n\n\
                        - the method and the path\n"
            .to_owned();
        let mut point = |text: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(page, "- {text}");
        };
        if self.query {
            point("the query, byte by byte");
        }
        if self.authority {
            point("the host, in lower case and without the ports 80 and 443");
        }
        point(if self.exact_type {
            "every line of `Content-Type`, byte by byte"
        } else {
            "the media type in `Content-Type`, in lower case and without its `charset`"
        });
        point("the codings in `Content-Encoding`");
        self.headers.iter().for_each(|name| point(&format!("every line of `{name}`, byte by byte")));
        self.body_points().iter().for_each(|text| point(text));
        point(if self.trailers {
            "the trailers, where both requests have some"
        } else {
            "of gRPC, the trailers, where both requests have some"
        });
        page.push_str("\nAnother request with a key that was used gets a 422 response, and does nothing.\n");
        page
    }

    fn body_points(&self) -> Vec<String> {
        let names = |pointers: &[Pointer]| {
            let names: Vec<_> = pointers.iter().map(|pointer| format!("`{}`", pointer.as_str())).collect();
            names.join(", ")
        };
        let mut points = Vec::new();
        let rest = match &self.body {
            BodyRule::Ignored => return points,
            BodyRule::Custom(name, _) => return vec![format!("what the rule `{name}` says of the request")],
            BodyRule::Bytes => "the body, byte by byte",
            BodyRule::Json { without, only } => {
                let mut text = "of JSON, what it means: white space and the order of members do not count".to_owned();
                if !only.is_empty() {
                    text.push_str(&format!("; only these members do: {}", names(only)));
                }
                if !without.is_empty() {
                    text.push_str(&format!("; without these members: {}", names(without)));
                }
                points.push(text);
                "of any other body, each byte"
            }
        };
        points.push(rest.to_owned());
        if !self.exact_type {
            points.push("of a multipart body, the parts and what stands around them, and not the boundary".to_owned());
        }
        points
    }
}
