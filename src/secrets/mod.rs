//! What should not be sent to anybody: files whose names say that they hold secrets, and texts with credentials in them.
//!
//! Pure, and linear in the text. Knows no task, no provider, and no place but a stretch of a text; what becomes of a finding is
//! decided in `plan`. Where it is in doubt it says nothing of a value that may be an identifier, a digest or an example: a person
//! who is stopped for nothing turns the search off, and then it finds nothing at all.

mod names;
mod rules;
mod values;

use std::ops::Range;
use std::sync::{LazyLock, OnceLock};

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use rules::RULES;

pub use names::{denied, is_secret_name};

/// A credential in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind: `AWS access key id`.
    pub what: &'static str,
    /// Where it stands.
    pub span: Range<usize>,
}

/// All forms at once, in one pass, which says of most texts that there is nothing.
static ANY: LazyLock<Result<RegexSet, String>> = LazyLock::new(|| {
    let patterns = RULES.iter().map(|rule| rule.pattern);
    let any = RegexSetBuilder::new(patterns).unicode(false).size_limit(64 << 20).dfa_size_limit(16 << 20).build();
    any.map_err(|e| e.to_string())
});

/// Each form by itself, made when a text first has it: most runs need none.
static EACH: [OnceLock<Result<Regex, String>>; RULES.len()] = [const { OnceLock::new() }; RULES.len()];

/// The credentials in a text, in their order; where two overlap, the first, and of those the one of the narrower form.
///
/// # Errors
/// The rules cannot be used: a mistake in them.
pub fn find(text: &str) -> Result<Vec<Finding>, String> {
    let any = ANY.as_ref().map_err(Clone::clone)?;
    let mut found: Vec<Finding> = Vec::new();
    for at in any.matches(text.as_bytes()) {
        let rule = &RULES[at];
        let compile = || RegexBuilder::new(rule.pattern).unicode(false).build().map_err(|e| e.to_string());
        let form = EACH[at].get_or_init(compile).as_ref().map_err(Clone::clone)?;
        for groups in form.captures_iter(text.as_bytes()) {
            let Some(group) = groups.get(1).or_else(|| groups.get(0)) else { continue };
            // What is ASCII begins and ends where characters do; an address need not be.
            let span = text.floor_char_boundary(group.start())..text.ceil_char_boundary(group.end());
            if let Some(span) = values::held(rule, text, span) {
                found.push(Finding { what: rule.name, span });
            }
        }
    }
    // A stable sort: of two that begin at one place the rule that stands first is the narrower.
    found.sort_by_key(|finding| finding.span.start);
    let mut end = 0;
    found.retain(|finding| {
        let is_new = finding.span.start >= end;
        end = end.max(finding.span.end);
        is_new
    });
    Ok(found)
}

/// As much of a credential as says which it is, and no more: its first characters.
pub fn beginning(secret: &str) -> String {
    let count = (secret.chars().count() / 4).min(4);
    secret.chars().take(count).chain(['…']).collect()
}

/// A text with these stretches blotted out but for their beginnings; every place in it stays where it was.
pub fn blotted(text: &str, spans: &[Range<usize>]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans.iter().filter(|span| span.start <= span.end && span.end <= text.len()) {
        let start = span.start.max(at);
        if start >= span.end {
            continue;
        }
        out.push_str(&text[at..start]);
        let secret = &text[start..span.end];
        let shown = if start == span.start { beginning(secret).chars().count() - 1 } else { 0 };
        for (i, c) in secret.chars().enumerate() {
            match i < shown || c == '\n' || c == '\r' {
                true => out.push(c),
                false => out.extend(std::iter::repeat_n('*', c.len_utf8())),
            }
        }
        at = span.end;
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample of each kind, made up for this; the dots, which are taken out, keep scanners of this repository from finding it.
    #[rustfmt::skip]
    const SAMPLES: &[(&str, &str)] = &[
        ("private key", "-----BEGIN ·RSA PRIVATE KEY-----\nR+DtrGmC2mqnXUEvX3NdjCRQMAAfPT8Pj82QPeMQcdoMtpahuYsaomq0Jxf6jJzB\nhGgFMb+UpHjFiIrl63bVDaf32dN3L37kKL5z8ScMm1uvoHOrj6==\n-----END"),
        ("PuTTY private key", "Private-·Lines: 14\nqH0QJ7USGzOrnAEJzC9TYJytUWPW6aQx2LlnP53RP/4w8XXmuUMk74lOW+ksKuVn"),
        ("age secret key", "AGE-SECRET-·KEY-1VCSH99RFQMFVMJUP82MW4SNWK5E2CM8CASFTPWQ5GYRJVL2DUV6S9EA6XN"),
        ("AWS access key id", "AK·IAMHU3V2XGJ4FIEYT4"),
        ("AWS secret access key", "aws_secret_access_key = ·rkVQtmOgWZx4PvwRQwQqlun5lMD8oHCf2ZejRY9/"),
        ("AWS Bedrock key", "AB·SK3zpJMcM8TdXjbNM1sr2VqIzGWgocuhFqC3sOtYrJp6VEJZxYbkI3lespF7ZAhUSbTzxT24p6auTvICSTCcxOZJbb8Cxt3XhzbXtlrm6aePH6GqW7"),
        ("Google API key", "AI·za5ARqx9QTP5gjJwxEUqSAOTAIwxZpl_Ysc56"),
        ("Google OAuth client secret", "GOC·SPX-Gv7G1VPYIywMvYkwsphvvszKG13k"),
        ("Google OAuth token", "ya·29.QShJCtSkR82W8jo6mL2SxwW15eDwGcDkSEyg7DfhaKScQcOL9s2r9GZTWYCm"),
        ("Azure storage key", "Account·Key=kP6wPGCfLfs2AzI8GzsxZF7wjxJzusSb8aVx/rPNM401bDQkq3wjSg4i9/UmZZqPqBHqQidgKtp9rVmtUNktMl=="),
        ("Azure shared access key", "SharedAccess·Key=AJP9buSoTHSpGC+JSQvnAujpG3OTQDc1E8uyLRKZ8RG="),
        ("Azure client secret", " wQf8Q·~1CmIM6X9QT9anp8FELMkR5Tu85MtoMs6IZ"),
        ("DigitalOcean token", "dop_·v1_4e6107a2f0eb9864c9be3a00f6f11cf35cba979e6aadb59c3d6d45988daf241e"),
        ("Alibaba Cloud access key id", "LT·AIa806EHKgWJREFoN8CBIu"),
        ("Tencent Cloud secret id", "AK·IDn7PMuhpWgXEjtyn9hPMB1HUH2aVflx56"),
        ("Cloudflare origin key", "v1.·0-7cf1d6332a5f2bd29db2f565-f532efa59495896235944ad63301702ea0eddb8d66de55aad9b0b81a7c982437232112ebdde1fd8cea3632932de172205e7f045f89b38f0a883099b1b0d38bb4211eb53d225175cb68"),
        ("Heroku token", "HRKU·-OkFiyuyvXvVJx9Vdba0dx1ch5f0fCg0eFDCU"),
        ("Fly.io token", "fo·1_Gx33UflIMjlCFMpT59cJEXkoQ9ETTPiEecUOX3O5erO"),
        ("Netlify token", "nf·p_yVWBHQeZYyDoVEWDje6q1GTMGswwtc0C21De"),
        ("Render token", "rn·d_AvF6wx1PeP1OMzOBs8bFLwiEYkaTqPJQ"),
        ("Supabase token", "sb·p_a1f98384d52d9e83c4bfefa2f0ff9a64f38b48ba"),
        ("PlanetScale token", "pscale_·tkn_bZJQjyUppBuE299WRRzi4CjCxkO3qOowNM4tobVKvZe"),
        ("Databricks token", "dap·ib8632539ddcdaa392e33ca4a4225eebe"),
        ("Tailscale key", "tskey-·auth-qvTFr9g9ZT7Ui2yHG-e5u2tK8ra7smQHPNYwyYvs9s6YuJMSaQ"),
        ("Anthropic key", "sk-·ant-api03-IequyKB-HX5DgqWH840K0iBNnDbG8h0DxRG50eqvGM-aNdDQ_p258jhtLCra7T4lF0PUI-Ooi-NQK7CDx3twCH7oSGh8NAA"),
        ("OpenRouter key", "sk-·or-v1-13fc06df32441346231c030d30c507c0fc20b650345832314bf54687c5ef2575"),
        ("OpenAI key", "sk-·proj-oHfflevdwF8d8V91NBmW8Pr03j5t3322ut16-PgMGlvOaaZDR17ZZSi0ekrI1dRNT9zaK92rncT3BlbkFJ4y0sIyHmw9GMhVGythsZAX5lHwkuM5RcAioNI0tpr7lkpInFsI5rMZlpVkMjULD3uo3CkrZcrx"),
        ("API key of the form sk-…", "sk-·iUzuEz1otxwegzZHqDcXEiG0BWQvSqYMBV4dMahcnrCsxMZS"),
        ("Hugging Face token", "hf·_yCHKgLX2RTAbclA0EctiedeacCBe8O2DD5"),
        ("Groq key", "gs·k_Kblya01DeEmJk5LUvssjs7DLmmiiaBxWlaiEckvZzlRntBihUu7r"),
        ("xAI key", "xa·i-4fFxAH37X7lTwX7T8csKz20hw2M3AholB4X55L4cDbfENqX9oU0rzmB0BjVQDGJf6UXs6A9gPZRHbyvC"),
        ("Perplexity key", "ppl·x-5xdmGg65tpJKoyRdHkpb1sAttSYVSsHbeiJKpM2u0KSonTzJ"),
        ("Replicate token", "r8·_84jkFA4dUIk1h9HT73k2AZDKeczaEWWVdFg8f"),
        ("NVIDIA key", "nva·pi-Jj6UKWpCsF29X7mYrBkETGyl27hTAQyxTqpS8FzmEAR_2jqpUMRZKazcczeeOj5a"),
        ("LangSmith key", "lsv2_·pt_16e37534957d790c14a48ad82a3323f0_bc0784eee8"),
        ("GitHub token", "gh·p_xjMA7mfWhcj54hSPuwKTwFyuJwswhRQyZj3e"),
        ("GitHub fine-grained token", "github_·pat_FK5TGx7lfa2yk8hB3ZBJaB_b74llguUa6Q8ayCUpIY1kMC8HlfUiRiDOpvyiGlF7cMmwSUV7kYk9iBTHI4"),
        ("GitLab token", "gl·pat-ydR2UAmLNqr1dQEyzZyx"),
        ("Bitbucket token", "AT·BBH40qP6vzAGEheDcEmmGapuUNN584PJno"),
        ("Atlassian token", "ATA·TT3UDhlSW4F50jiCVzRXHOMUuWhLwHOggFUjgzwGf4JOxSXozMf3nv2AbHU68D8ollf3eKnKt9Zs2aq8wPkpiyWQtTtqWUVvOe03tXlVta3Rq5ugSP8tC07gVzLw9iwerx9XeXrWwDy6XeITWAbvvTdX1uROQiK7jEtUOObfTjSFivi4QdAnNp5zQC0b8"),
        ("Linear key", "lin_·api_qL4IpBXHFcQKB3bX6nXpM4aCFAUwZxNbCoUOqcqu"),
        ("Notion token", "nt·n_eOEorL744uMgBQUfHi0Z1MEYXYXllNonjD5GFbavZfPPSb"),
        ("Airtable token", "pa·tgUfEjAa9CfTPFn.0e429dddd4193042a317b2a3ce4d94369f0085bc8e6c15e9c908b7d9b84fd7f9"),
        ("Figma token", "fi·gd_LTETFs5C70ya6takvdKIsVPVQnxRoXANnZEIYoHk"),
        ("Postman key", "PM·AK-e37c54b71556028832492fb8-c590ca1a0f358a418f6dd8b964063ec668"),
        ("SonarQube token", "sq·p_4daf45b56120400de52d2b2818ff49e3d0a6a215"),
        ("Buildkite token", "bk·ua_55a6761d61591f9456cfa11c1eb04d5028c5c13c"),
        ("JFrog token", "cm·Vmd9978TLpa8kKOVeLoBeKkaQb4zjIMl1dP2715sWR3pirSz4xukx0CbcO9Hnp"),
        ("npm token", "np·m_AgNbCRGFwSSpBS98vzoaXl5CsKwkgGz6QKeE"),
        ("token of an .npmrc", "//registry.acme.dev/:_auth·Token=LJz9mZA34xWu8GewTOiUUyvdn6TYg48o"),
        ("PyPI token", "py·pi-AgEIcHlwaS5vcmcsT3IqXKf1P9gjjaELAVGKKw2EpC2qG5YXClWdu7aBIPx0eDoFP7bLyVVJGctYgursuAFn4gLGvutN9-s"),
        ("RubyGems key", "ruby·gems_6f8b33264d682ea347e694e33baedf6e8abb3cee520ce9cf"),
        ("Cargo token", "ci·oYaeI5ExxToWkPE0LE6BJx0hJySjyQ5UI"),
        ("NuGet key", "oy·2ryg31bs5lkg4trdx17pit46j0ol55nvfbgklr6vw8c3"),
        ("Docker Hub token", "dck·r_pat_wFYN7aZvXmHelRcCiBxT0MhXWax"),
        ("Clojars token", "CLO·JARS_8ylvd6d17e64fz5lubxnn2ttuce744ecnwcprvq71ltkq6n3b192w958dewz"),
        ("HashiCorp Vault token", "hv·s.AnsZbmFDYH7N2kBKdvqYtkI9YqzZGIE3OWOlHufLt0QqIHjawdaXH7tvj62RhaV8xfHHgpMX35uYody30QiOilJOdJ"),
        ("Terraform Cloud token", "xntzK0IHjDgmip.at·lasv1.R9BRMSoYBzm4LgqZpulMIyUuKZzPIqhlXuidCYPKvnu4mTOuRsg5z1LFDE3aYJKcfeT"),
        ("Pulumi token", "pu·l-4057a9459dcd63ee008e3f153725edddaf7ad809"),
        ("Doppler token", "dp.·pt.cfcnAYp55kBEaSJuv7jSc4J5beIblJqbt0Fc0rgL87K"),
        ("1Password service token", "ops_·eyJzSl3xAhrSvcuh1SBUA7jy1lpc32shaLO6uKyrLNUtZTNWg86eRAmidVCtBH6ax6tF5UKAunnVy79bPO8gjpEBG9Z5KvgDsLXZ0q5iP3f2uHCOLeeNZAQzZ41r0wh1mwk0M5EAKeLFIy5GSAB6M9SypV47W6C8gyLeIALNEy5JztVjrCWgaAe1cnVCnVdtiogcB9TFtYanUIP7VLaB4priQEl6kNv0sPCF785R80Lpb8vO7S8Nr5w450H6tSUgwAjMsTv"),
        ("1Password secret key", "A3·-20DGWJ-7DXFASJ069O-RGCAK-9JYYE-9BB8E"),
        ("New Relic key", "NR·AK-9JSRHU3QHHCQVG430URR3C5664Y"),
        ("Grafana token", "gl·sa_aipI1BawuMpuTOdgePAJvx0Wi6U7dkqn_208192af"),
        ("Sentry token", "sntr·yu_09d166b3a7e7f166bc1d234ea4d37f52bca550492ef91e8368cd049bc76d8d97"),
        ("Dynatrace token", "dt0·c01.0HJVRGZ6MUAQ4E3ORLMYIXVM.XDWJDMXHXNPQTFEF8RUSPEJHTPJODK1Z0I856SFDR1G3O85WAI3GDNXGGB4LT9I6"),
        ("Slack token", "xo·xb-231033835063-846255424623-nzphDlQIQjsZLnQZMx8TpZyN"),
        ("Slack app token", "xa·pp-1-ALR5SLM1GWW-4223677721391-ld9n4ybl9prdizub5wb2jbl8ixgpxn95prtti165rx9b4mnm9285sxc5ppnoqk3a"),
        ("Slack webhook", "https://hooks.slack.com/·services/TX3EQHJ4J/BYJJZ9YC2CI/cxFAVfVzxRbitXTP8Vyx28IU"),
        ("Discord webhook", "https://discord.com/api/·webhooks/850341396876413232/6j496xci3e1giD4YlmUFK8VYlMapM5Gj1g9pPHCQHcER5CtmKDU5GS0oufNQVNw5zttM"),
        ("Discord bot token", "MTIHVuzBJxJnUUVVz9p4YlwLaE·.iai5DB.x5sh2Au9mRKmeV8yTqSJEeuoRN5CfwwfqOKZ4Y"),
        ("Telegram bot token", "2915736127:·AAu2kiQJAlufGOrIpYtnGKPRT4bQ4Lysiqj"),
        ("Teams webhook", "https://acme.webhook.office.com/·webhookb2/dcda9864f12452b8b8b89e5146571c8b6d2d@6567923a9335aeef9915402e580e2215b721/IncomingWebhook/912e86f7d2f56bed344753a78eb9dde9"),
        ("Twilio key", "S·K315c9b94621a70bebb20ef699c4fcb26"),
        ("SendGrid key", "S·G.DOnaUTxkIJG5RWjHnlwg0r.9HUhRHv4crV8Tmr0xn9JK4b76LUdEFqA0krN3WKiKkr"),
        ("Mailgun key", "ke·y-1e4a8931009048a599691cbca7e735d9"),
        ("Mailchimp key", "a48a9fd2c0ce60544fd89b8bf0be48da·-us12"),
        ("Brevo key", "xkey·sib-0c827d402f4fe8cd3f1b4d45eae554da7493de21436788702289b90d6d461be2-8eu9ekekqXvqhO88"),
        ("Stripe live key", "sk_·live_mK7hZHPUxOeZB1sOUBlPUBcP"),
        ("Stripe webhook secret", "wh·sec_ZIzspGUtJDo0Js0HYqMTFmBfKQM8WQ8w"),
        ("Square token", "sq0·atp-r7qfL5X587f70ZWYtLqfkh"),
        ("Braintree token", "access_token·$production$tzxlicpat0qf3rsw$4c4fa9ee7cce7bab93e8706a467a56cb"),
        ("Shopify token", "shp·at_6723a934cef2cf3e4adece3136454e51"),
        ("Facebook token", "EA·AMSJOtDacdAHHuraFQew121DudwoCtEP4l4pOgBSQWjYR560E9NlX11B7e82reKv1P1Bt30MaraRxcjW91jCYc5PGAd4DMv7FcWfy8sZJAX3WgXukvnR9QxwZ4"),
        ("JSON web token", "eyJ·hbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJrBN6Epqdz2FD1glgVshbGqEdfotQLWe2iVpxHTti5D4JrCAwJEdyI1QMn9pa.X4BoL1StnQ47weiFbfAYmXyavyoILfZuUmu3q3o8ZWL"),
        ("bearer token", "Authorization: ·Bearer Vj5mwSSiv1UNH97eu37aFauZ4OoRctfJZDVL3vIV"),
        ("user and password of an HTTP header", "Authorization: ·Basic 19bH5yTrcHV6bS6KjoFukw3dx3eB1n=="),
        ("password in an address", "postgres://shop:·sFtvC3ltcSRyEHJL@db.acme.dev:5432/shop"),
        ("secret in quotes", "const apiKey = ·\"mkHa3tsBmNwwXUKVNnFBjF4HAaivsvux\""),
        ("secret in settings", "DB_PASSWORD=·xf38gcx4zp9i6IRATD"),
    ];

    fn sample(with_dots: &str) -> String {
        with_dots.replace('·', "")
    }

    fn names(text: &str) -> Vec<&'static str> {
        find(text).unwrap().iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn each_kind_is_found_wherever_it_stands() {
        let told: Vec<&str> = SAMPLES.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            told,
            RULES.iter().map(|rule| rule.name).collect::<Vec<_>>(),
            "a sample for each rule, in their order"
        );
        for (name, text) in SAMPLES {
            let text = sample(text);
            for around in [
                text.clone(),
                format!("é: prose before\n{text}\nand after\n"),
                format!("key: x\r\n{text}\r\n"),
                format!("`````\n{text}\n"),
            ] {
                assert_eq!(names(&around), [*name], "{around}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        let hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let digest =
            format!("{} *genmake.tar.gz\nsha256:{hex} sha512-{}==", hex, "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ".repeat(2));
        let image = format!(
            "![x](data:image/png;base64,{})",
            "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4".repeat(20)
        );
        for text in [
            // Digests, identifiers, data.
            digest.as_str(),
            image.as_str(),
            "id: 550e8400-e29b-41d4-a716-446655440000",
            "client_secret: 550e8400-e29b-41d4-a716-446655440000",
            "commit 453ef21d0c7a64e4f2a1b7d3f9e8c6a5b4d3e2f1",
            "integrity = \"sha512-9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
            "checksum = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDL0W1q5Hk6p2n8m0b7cJx4y3 ann@acme.dev",
            "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n",
            "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo\n",
            "-----BEGIN RSA PRIVATE KEY-----\n…\n-----END RSA PRIVATE KEY-----",
            "starts with `-----BEGIN PRIVATE KEY-----` and ends with `-----END PRIVATE KEY-----`",
            // Examples and placeholders.
            "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "OPENAI_API_KEY=sk-...",
            "sk-your_key_here sk-proj-your-openai-key sk-ant-api03-...",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "ghp_0123456789abcdefghijklmnopqrstuvwxyz",
            "xoxb-your-token-here",
            "AIzaSy",
            "the prefix `glpat-`, the class sk-circle sk-fading-circle-wrapper",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
            "sk_test_4eC39HqLyjWDarjtT1zdp7dc",
            // Names of secrets, and what is none.
            "password: ${DB_PASSWORD}",
            "password = \"changeme123\"",
            "password: \"hunter2\"",
            "password: \"********12\"",
            "api_key: \"{{vars.api_key1}}\"",
            "DB_PASSWORD=$DB_PASSWORD_1",
            "SECRET_KEY=<your-secret-key-32>",
            "token: \"access-token-v2\"",
            "token: string, at most 64 characters",
            "password (string, 8 to 72 characters)",
            "tokens: 12345678",
            "max_tokens=160000",
            "const token = getToken2(user1);",
            "api_key = os.environ[\"API_KEY_2\"]",
            "\"nextPageToken\": \"CiAKGjBpNDd2Nmp2Zml2cXRwYjBp\"",
            "NEXT_PUBLIC_API_KEY=a8dK2mX91qLzP0vTb",
            "csrf_token = \"8dK2mX91qLzP0vTb\"",
            "private_key = \"keys/server2.pem\"",
            "passwordHash: \"sha256:9f86d081884c7d65\"",
            "secret: \"2026-11-21T10:00\"",
            // Addresses without secrets.
            "postgres://postgres:postgres@localhost:5432/shop",
            "postgres://shop:s3cr3tP4ssw0rd@localhost/shop",
            "https://user:password@example.com/",
            "redis://:redis@cache:6379, mysql://root:root@db/x",
            "postgres://user:${PASSWORD}@db.acme.dev/shop and https://user:<password>@db.acme.dev",
            "https://acme.dev:8443/a@b and ann@acme.dev: see http://acme.dev",
            "Authorization: Bearer <token>",
            "Authorization: Bearer $TOKEN",
            "curl -H \"Authorization: Bearer YOUR_ACCESS_TOKEN_1\"",
            "Authorization: Basic YOUR_BASE64_CREDENTIALS",
        ] {
            assert_eq!(names(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_line_after_another_and_two_on_one() {
        let (key, token) = (sample(SAMPLES[3].1), sample("gh·p_q1W2e3R4t5Y6u7I8o9P0a1S2d3F4g5H6j7K8"));
        let text = format!("A_TOKEN=x9Kq2Lm4Zp7\nB_TOKEN=y8Jw3Nn5Xo6\n{key} {token}\n");
        let found = find(&text).unwrap();
        let found: Vec<(&str, &str)> = found.iter().map(|found| (found.what, &text[found.span.clone()])).collect();
        assert_eq!(names("NEXTAUTH_SECRET=x9Kq2Lm4Zp7\nDB_PASS=y8Jw3Nn5Xo6\n").len(), 2);
        let by_name = "secret in settings";
        let (first, second) = ((by_name, "x9Kq2Lm4Zp7"), (by_name, "y8Jw3Nn5Xo6"));
        assert_eq!(found, [first, second, ("AWS access key id", &*key), ("GitHub token", &*token)]);
        // A token that also has a name is called by its own.
        assert_eq!(names(&format!("GITHUB_TOKEN=\"{token}\"\nTOKEN={token}\n")), ["GitHub token"; 2]);
    }

    #[test]
    fn the_password_of_an_address_is_all_that_is_blotted_out() {
        let text = "db: postgres://shöp:tr0ub4dor3x@db.acme.dev/shop\n";
        let found = find(text).unwrap();
        assert_eq!(&text[found[0].span.clone()], "tr0ub4dor3x");
        let blot = blotted(text, &[found[0].span.clone()]);
        assert_eq!(blot, "db: postgres://shöp:tr*********@db.acme.dev/shop\n");
    }

    #[test]
    fn what_is_blotted_out_keeps_places_and_lines() {
        let text = "a: séc\nret\nb: other";
        assert_eq!(blotted(text, &[3..11, 5..8, 15..20]), "a: s***\n***\nb: o****");
        assert_eq!(blotted(text, &[3..11, 15..20]).len(), text.len());
        assert_eq!([beginning("abc"), beginning("abcdefgh"), beginning(&"x".repeat(80))], ["…", "ab…", "xxxx…"]);
    }

    /// Nothing that a text holds makes a search slow: what takes longest is a megabyte that begins like something everywhere.
    #[test]
    fn all_texts_are_searched_and_places_fit() {
        for piece in
            ["a", "sk-", "eyJ", "password: \"", "é", "https://a:b", "-----BEGIN PRIVATE KEY-----\n", "A_TOKEN=a1\n"]
        {
            let text = piece.repeat((1 << 16) / piece.len());
            for finding in find(&text).unwrap() {
                assert!(text.get(finding.span).is_some());
            }
        }
    }
}
