//! The credentials that are known by their form, as of November 2026: what each issuer's own documentation says of its tokens,
//! and what the rule sets of public scanners agree upon. Knows nothing of how a text is searched.
//!
//! A row is added with a sample in the tests below `secrets`. It should match what the issuer gives out and little else: a false
//! alarm stops a build. Where a token has no form of its own, the name beside it decides, in the last rows.

/// What a form that matched must be like beside its form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Held {
    /// The form is enough.
    ByForm,
    /// It is random: so many bits for each character, at least.
    Random(f64),
    /// It may be anything that a name for secrets is given: see `is_secret_value`.
    ByName,
    /// It is the password of an address: see `secret_password`.
    InAddress,
}

/// A form of credentials.
pub(super) struct Rule {
    /// What people call it: `AWS access key id`.
    pub name: &'static str,
    /// A regular expression over bytes, where `\b`, `\w` and `\s` are ASCII's. Its group is the credential, or all of it is.
    pub pattern: &'static str,
    pub held: Held,
}

const fn form(name: &'static str, pattern: &'static str) -> Rule {
    Rule { name, pattern, held: Held::ByForm }
}

const fn random(name: &'static str, pattern: &'static str) -> Rule {
    Rule { name, pattern, held: Held::Random(3.0) }
}

#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    // Keys and passwords in their files.
    form("private key", r#"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----[\s\\nr"'+,]{1,60}(?:[A-Za-z-]{4,20}: [^\n\\]{1,80}[\s\\nr"'+,]{1,60}){0,4}[A-Za-z0-9+/]{32}[A-Za-z0-9+/=\s\\"'+,]*"#),
    form("PuTTY private key", r"Private-Lines: [0-9]{1,3}\s+[A-Za-z0-9+/]{32}[A-Za-z0-9+/=\s]*"),
    form("age secret key", r"\bAGE-SECRET-KEY-1[A-Z0-9]{58}\b"),
    // Clouds.
    random("AWS access key id", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    random("AWS secret access key", r#"(?i)secret_?access_?key["'`]?\s{0,4}(?:=>|[:=,])\s{0,4}["'`]?([a-z0-9/+]{40})(?:[^a-z0-9/+=]|$)"#),
    random("AWS Bedrock key", r"\bABSK[A-Za-z0-9+/]{100,}={0,2}"),
    random("Google API key", r"\bAIza[A-Za-z0-9_-]{35}"),
    random("Google OAuth client secret", r"\bGOCSPX-[A-Za-z0-9_-]{28}"),
    random("Google OAuth token", r"\bya29\.[A-Za-z0-9_-]{30,}"),
    random("Azure storage key", r"\bAccountKey=([A-Za-z0-9+/]{86}==)"),
    random("Azure shared access key", r"\bSharedAccessKey=([A-Za-z0-9+/]{43}=)"),
    random("Azure client secret", r"(?:^|[^A-Za-z0-9_~.-])([A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34})(?:[^A-Za-z0-9_~.-]|$)"),
    random("DigitalOcean token", r"\bdo[por]_v1_[a-f0-9]{64}\b"),
    random("Alibaba Cloud access key id", r"\bLTAI[A-Za-z0-9]{20}\b"),
    random("Tencent Cloud secret id", r"\bAKID[A-Za-z0-9]{32}\b"),
    random("Cloudflare origin key", r"\bv1\.0-[a-f0-9]{24}-[a-f0-9]{146}\b"),
    random("Heroku token", r"\bHRKU-[A-Za-z0-9_-]{36,}"),
    random("Fly.io token", r"\bfo1_[A-Za-z0-9_-]{43}"),
    random("Netlify token", r"\bnfp_[A-Za-z0-9]{36,}"),
    random("Render token", r"\brnd_[A-Za-z0-9]{28,}\b"),
    random("Supabase token", r"\bsbp_[a-f0-9]{40}\b"),
    random("PlanetScale token", r"\bpscale_(?:tkn|pw|oauth)_[A-Za-z0-9=_.-]{32,64}"),
    random("Databricks token", r"\bdapi[a-f0-9]{32}(?:-[0-9])?\b"),
    random("Tailscale key", r"\btskey-[a-z]+-[A-Za-z0-9]{8,}-[A-Za-z0-9]{20,}"),
    // Models.
    random("Anthropic key", r"\bsk-ant-[a-z]{3,10}[0-9]{2}-[A-Za-z0-9_-]{80,}"),
    random("OpenRouter key", r"\bsk-or-v1-[a-f0-9]{64}\b"),
    random("OpenAI key", r"\bsk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{40,}"),
    random("API key of the form sk-…", r"\bsk-[A-Za-z0-9]{32,64}\b"),
    random("Hugging Face token", r"\b(?:hf|api_org)_[A-Za-z0-9]{34,40}\b"),
    random("Groq key", r"\bgsk_[A-Za-z0-9]{52}\b"),
    random("xAI key", r"\bxai-[A-Za-z0-9]{80}\b"),
    random("Perplexity key", r"\bpplx-[A-Za-z0-9]{48}\b"),
    random("Replicate token", r"\br8_[A-Za-z0-9]{37}\b"),
    random("NVIDIA key", r"\bnvapi-[A-Za-z0-9_-]{60,}"),
    random("LangSmith key", r"\blsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}\b"),
    // Code, its issues and its builds.
    random("GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{36,}\b"),
    random("GitHub fine-grained token", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b"),
    random("GitLab token", r"\bgl(?:pat|dt|rt|ptt|oas|ft|imt|agent|soat|cbt)-[A-Za-z0-9_.=-]{20,}"),
    random("Bitbucket token", r"\bATBB[A-Za-z0-9]{32}\b"),
    random("Atlassian token", r"\bAT(?:ATT|CTT)3[A-Za-z0-9_=-]{100,}"),
    random("Linear key", r"\blin_api_[A-Za-z0-9]{40}\b"),
    random("Notion token", r"\b(?:ntn|secret)_[A-Za-z0-9]{43,50}\b"),
    random("Airtable token", r"\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}\b"),
    random("Figma token", r"\bfig[dour]_[A-Za-z0-9_-]{40,}"),
    random("Postman key", r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}\b"),
    random("SonarQube token", r"\bsq[apu]_[a-f0-9]{40}\b"),
    random("Buildkite token", r"\bbkua_[a-f0-9]{40}\b"),
    random("JFrog token", r"\bcmVmd[A-Za-z0-9]{59}\b"),
    // Packages.
    random("npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    random("token of an .npmrc", r#":_(?:authToken|auth|password)[ \t]*=[ \t]*"?([A-Za-z0-9+/_=.-]{16,})"#),
    random("PyPI token", r"\bpypi-AgE[A-Za-z0-9_-]{60,}"),
    random("RubyGems key", r"\brubygems_[a-f0-9]{48}\b"),
    random("Cargo token", r"\bcio[A-Za-z0-9]{32}\b"),
    random("NuGet key", r"\boy2[a-z0-9]{43}\b"),
    random("Docker Hub token", r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{27,}"),
    random("Clojars token", r"\bCLOJARS_[a-z0-9]{60}\b"),
    // Secrets themselves, and how a system runs.
    random("HashiCorp Vault token", r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}"),
    random("Terraform Cloud token", r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}"),
    random("Pulumi token", r"\bpul-[a-f0-9]{40}\b"),
    random("Doppler token", r"\bdp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{40,}"),
    random("1Password service token", r"\bops_eyJ[A-Za-z0-9+/_-]{200,}"),
    random("1Password secret key", r"\bA3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}\b"),
    random("New Relic key", r"\bNRAK-[A-Z0-9]{27}\b"),
    random("Grafana token", r"\bgl(?:c|sa)_[A-Za-z0-9+/_]{32,}"),
    random("Sentry token", r"\bsntry[su]_[A-Za-z0-9+/=_-]{64,}"),
    random("Dynatrace token", r"\bdt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}\b"),
    // Messages and mail.
    random("Slack token", r"\bxox[abeprs]-[0-9]{1,14}-[A-Za-z0-9-]{10,}"),
    random("Slack app token", r"\bxapp-[0-9]-[A-Z0-9]{8,}-[0-9]{8,}-[a-z0-9]{32,}"),
    random("Slack webhook", r"\bhooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9+/]{40,})"),
    random("Discord webhook", r"\bdiscord(?:app)?\.com/api/webhooks/[0-9]{17,20}/([A-Za-z0-9_-]{60,})"),
    random("Discord bot token", r"\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}"),
    random("Telegram bot token", r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"),
    random("Teams webhook", r"\.webhook\.office\.com/webhookb2/([A-Za-z0-9@/-]{80,})"),
    random("Twilio key", r"\bSK[0-9a-f]{32}\b"),
    random("SendGrid key", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    random("Mailgun key", r"\bkey-[0-9a-f]{32}\b"),
    random("Mailchimp key", r"\b[0-9a-f]{32}-us[0-9]{1,2}\b"),
    random("Brevo key", r"\bxkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16}\b"),
    // Money.
    random("Stripe live key", r"\b[rs]k_live_[A-Za-z0-9]{16,}"),
    random("Stripe webhook secret", r"\bwhsec_[A-Za-z0-9+/]{32,}"),
    random("Square token", r"\bsq0(?:atp|csp)-[A-Za-z0-9_-]{22,43}"),
    random("Braintree token", r"\baccess_token\$production\$[0-9a-z]{16}\$[0-9a-f]{32}\b"),
    random("Shopify token", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b"),
    random("Facebook token", r"\bEAA[MC][A-Za-z0-9]{100,}"),
    // What any issuer may give out.
    random("JSON web token", r"\beyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{20,}"),
    Rule { name: "bearer token", pattern: r#"(?i)authorization["'`]?\s{0,4}[:=,]\s{0,4}["'`]?(?:bearer|token)\s{1,4}([a-z0-9._~+/=-]{20,})"#, held: Held::ByName },
    Rule { name: "user and password of an HTTP header", pattern: r#"(?i)authorization["'`]?\s{0,4}[:=,]\s{0,4}["'`]?basic\s{1,4}([a-z0-9+/]{16,}={0,2})"#, held: Held::Random(3.0) },
    Rule { name: "password in an address", pattern: r#"\b[a-z][a-z0-9+.-]{1,20}://([^\s:/@"'`<>{}$]{1,64}:[^\s/@"'`<>{}$]{3,128}@[^\s/"'`<>{}$?#]{1,255})"#, held: Held::InAddress },
    // What a name says. In quotes, as code and JSON have it; a line NAME=VALUE or name: value of settings.
    Rule { name: "secret in quotes", pattern: r#"(?i)(?:password|passwd|passphrase|_pass|pwd|secret|token|api_?-?key|access_?-?key|auth_?-?key|secret_?-?key|private_?-?key|encryption_?-?key|signing_?-?key|credentials?)\\?["'`]?\s{0,4}(?:=>|:=|[:=])\s{0,4}\\?["'`]([^\s"'`\\]{8,150})\\?["'`]"#, held: Held::ByName },
    Rule { name: "secret in settings", pattern: r#"(?im)^[ \t]*(?:export[ \t]+|-[ \t]+|set[ \t]+)?[a-z0-9_.-]{0,60}(?:password|passwd|passphrase|_pass|pwd|secret|token|api_?-?key|access_?-?key|auth_?-?key|secret_?-?key|private_?-?key|encryption_?-?key|signing_?-?key|credentials?)[ \t]*[:=][ \t]*([a-z0-9!@#%^&*_+=./~?-]{8,150})[ \t]*\r?$"#, held: Held::ByName },
];
