fn main() {
    genmake::build_script::render_to_out_dir("build.Genfile");
    genmake::build_script::verify("Genfile");
}
