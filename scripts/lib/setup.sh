# setup.sh - what the scripts share: Debian packages, builds, and phases with their times. Sourced by bash, from the
# root of the repository.

# What a build needs: the compiler and CMake, then the libraries that docs/dependencies.md explains.
build_packages=(gcc libc6-dev cmake ninja-build pkg-config
    libyaml-dev libjpeg62-turbo-dev libpng-dev zlib1g-dev libxxhash-dev libmd-dev libutf8proc-dev
    libdnnl-dev)
# Ranks over MPI are tested where these are; a build without them lacks that plugin.
test_packages=(libcmocka-dev libopenmpi-dev openmpi-bin)

# missing_packages PACKAGE...: those that are not installed, one a line.
missing_packages() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# install_packages PACKAGE...: installs what is missing; does nothing if nothing is.
install_packages() {
    local missing
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        echo "This is not Debian, so nothing is installed. Needed are the counterparts of these packages:"
        echo "    $*"
        return 0
    fi
    missing=$(missing_packages "$@" | tr '\n' ' ')
    missing=${missing% }
    if [ -z "$missing" ]; then
        echo "all there: $*"
        return 0
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "error: these packages are missing, and installing them needs root:" >&2
        echo "    sudo apt-get install --no-install-recommends $missing" >&2
        return 1
    fi
    echo "installing: $missing"
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get -q=2 update &&
        DEBIAN_FRONTEND=noninteractive apt-get -q=2 install -y --no-install-recommends $missing >/dev/null
}

# configure FOLDER ARGUMENT...: runs cmake; a folder that was configured before keeps its generator. Quiet unless it
# fails.
configure() {
    local folder=$1 generator=()
    shift
    mkdir -p "$folder"
    [ -f "$folder/CMakeCache.txt" ] || generator=(-G Ninja)
    cmake -S . -B "$folder" "${generator[@]}" "$@" >"$folder/configure.log" 2>&1 || {
        cat "$folder/configure.log"
        return 1
    }
}

# compile FOLDER [TARGET...]: builds all, or some targets. The whole output is shown on a terminal, or if it fails.
compile() {
    local folder=$1 command
    shift
    command=(cmake --build "$folder" --parallel "$(nproc)")
    [ $# = 0 ] || command+=(--target "$@")
    if [ -t 1 ]; then
        "${command[@]}"
    else
        "${command[@]}" >"$folder/compile.log" 2>&1 || {
            cat "$folder/compile.log"
            return 1
        }
    fi
}

phase_names=()
phase_results=()

# phase NAME COMMAND...: runs it, remembers its time and verdict, and returns its exit code.
phase() {
    local name=$1 start=$SECONDS code=0 result=ok
    shift
    printf '\n==> %s\n' "$name"
    "$@" || code=$?
    [ $code = 0 ] || result="FAILED ($code)"
    phase_names+=("$name")
    phase_results+=("$(printf '%5d s  %s' $((SECONDS - start)) "$result")")
    return $code
}

# print_phases: the times and verdicts of all phases.
print_phases() {
    local i
    printf '\n'
    for i in "${!phase_names[@]}"; do
        printf '%-20s %s\n' "${phase_names[$i]}" "${phase_results[$i]}"
    done
    printf '%-20s %5d s\n' all "$SECONDS"
}
