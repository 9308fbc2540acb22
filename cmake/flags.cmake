# Compiler flags of every target: warnings, hardening in a release, sanitizers on demand.
add_compile_options(-Wall -Wextra -Wshadow -Wconversion -Wformat=2 -Wvla -Wmissing-prototypes
                    -Wstrict-prototypes -Wno-sign-conversion -fvisibility=hidden)
add_compile_definitions(_GNU_SOURCE G_LOG_USE_STRUCTURED G_LOG_DOMAIN="vm-driver"
                        VM_VERSION="${PROJECT_VERSION}")
if(CMAKE_C_COMPILER_ID MATCHES "Clang")
  # unused-variable: it does not count the cleanup attribute (g_autoptr(GMutexLocker)) as a use; gcc
  # finds the others. string-concatenation: tables of long texts, cut at the line's end.
  add_compile_options(-Wno-unused-variable -Wno-string-concatenation)
endif()
if(WARNINGS_AS_ERRORS)
  add_compile_options(-Werror)
endif()
if(SANITIZE)
  add_compile_options(-fsanitize=${SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SANITIZE})
  # The runtimes take the place of xdr_* and go on to those that were there when the program began.
  # libvirt brings them (libtirpc) later, when it is loaded: then they would go on to address 0.
  find_library(TIRPC NAMES libtirpc.so.3)
  if(TIRPC)
    add_link_options(-Wl,--push-state,--no-as-needed ${TIRPC} -Wl,--pop-state)
  endif()
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  add_compile_options(-fstack-protector-strong -fstack-clash-protection -fcf-protection
                      -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
  add_link_options(-pie -Wl,-z,relro,-z,now -Wl,--as-needed)
endif()
if(FAILPOINTS)
  add_compile_definitions(VM_FAILPOINTS=1)
endif()
if(FUZZ) # coverage for libFuzzer in every file; the targets link it themselves
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_link_options(-fsanitize=fuzzer-no-link)
endif()
